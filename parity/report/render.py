"""Results as one HTML file that opens by double click and asks the network for nothing.

Fixed parts are rendered here. Rows travel as gzipped JSON and become table rows in the browser when they are looked
at, so that thousands of them cost little. The content security policy admits exactly the page's own scripts and style.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import logging
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from parity.files import write_atomically
from parity.report import charts, format, tables
from parity.schema import Results, to_json
from parity.verdict import Verdict

WARN_BYTES, LIMIT_BYTES = 3_000_000, 5_000_000
_LOG = logging.getLogger(__name__)
_FORMATS = ("either", "figure", "quantity", "seconds", "slug", "times", "tone", "value")
_NUMBER = re.compile(r"(\d[\d.]*e-\d+)")
_SIDES = ("legacy", "modern", "difference")


def render_report(results: Results) -> str:
    """The whole page as text."""
    template = _environment().get_template("report.html.j2")
    page = template.render(
        r=results,
        payload=_payload(results),
        style=_asset("report.css"),
        scripts={name: _asset(f"{name}.js") for name in ("theme", "report")},
        policy=_policy(),
        pipelines=tables.stages_by_pipeline(results),
        charts={name: charts.pipeline_chart(results, name) for name in tables.stages_by_pipeline(results)},
        counts=tables.tally(row.verdict for row in results.rows),
        side_checks=tables.side_checks(results),
        losses=tables.loss_tables(results),
        updates=_updates(results),
        draws={subject: tables.runs(list(draws)) for subject, draws in results.draws.items()},
    )
    return page.replace("@SIZE@", format.size(len(page.encode())))


def write_report(results: Results, path: Path) -> None:
    """Render and write atomically; warns above `WARN_BYTES`.

    Raises:
        ValueError: the page would exceed `LIMIT_BYTES`.
    """
    page = render_report(results).encode()
    if len(page) > LIMIT_BYTES:
        found, allowed = format.size(len(page)), format.size(LIMIT_BYTES)
        raise ValueError(f"{path}: the report would be {found}, allowed {allowed}; use fewer or smaller pictures")
    if len(page) > WARN_BYTES:
        _LOG.warning("%s is %s; browsers stay quick below %s", path, format.size(len(page)), format.size(WARN_BYTES))
    write_atomically(path, page)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("parity.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({name: getattr(format, name) for name in _FORMATS})
    environment.filters.update(unbroken=_unbroken, over_floor=tables.over_floor, describe_scope=tables.describe_scope)
    environment.globals.update(symbols=format.SYMBOLS, tally_bar=charts.tally_bar, columns=list(tables.UPDATE_COLUMNS))
    return environment


def _unbroken(text: str) -> Markup:
    """Numbers such as 5.7e-07 kept on one line: browsers break after the hyphen."""
    parts = _NUMBER.split(text)
    spans = [Markup('<span class="unbroken">{}</span>').format(part) for part in parts[1::2]]
    return Markup("").join(part for pair in zip(parts[::2], [*spans, ""], strict=True) for part in pair)


def _asset(name: str) -> Markup:
    """A stylesheet or script of this package, which is trusted."""
    return Markup((Path(__file__).parent / "templates" / name).read_text(encoding="ascii"))


def _policy() -> str:
    """Nothing may be loaded; inline code runs only if it has one of these digests; images only as data URIs."""
    scripts = " ".join(_digest(_asset(f"{name}.js")) for name in ("theme", "report"))
    return f"default-src 'none'; img-src data:; style-src {_digest(_asset('report.css'))}; script-src {scripts}"


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _payload(results: Results) -> str:
    """Everything but the images, which the page holds already: their places name the element that does."""
    pictures = [
        replace(picture, **{side: f"#picture-{index}-{side}" for side in _SIDES})
        for index, picture in enumerate(results.pictures)
    ]
    frames = [replace(frame, image=f"#frame-{index}") for index, frame in enumerate(results.frames)]
    verdicts = {word: {"symbol": format.SYMBOLS[word], "tone": format.tone(word)} for word in Verdict}
    document = {"results": to_json(replace(results, pictures=pictures, frames=frames)), "verdicts": verdicts}
    packed = gzip.compress(json.dumps(document, allow_nan=False, separators=(",", ":")).encode(), mtime=0)
    return base64.b64encode(packed).decode()


def _updates(results: Results) -> dict[str, list[tables.UpdateGroup]]:
    """Update tables by run: chained for each variant, then isolated."""
    variants = list(dict.fromkeys(row.variant for row in results.rows))
    found: dict[str, list[tables.UpdateGroup]] = {}
    for mode in ("isolated", "chained"):
        for variant in variants:
            found[f"{mode}, {variant}"] = tables.update_groups(results, mode, variant)
    return {run: groups for run, groups in found.items() if groups}
