"""What every HTML page of ours shares: templates, style, scripts, and a policy that loads nothing from anywhere."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from parity import ledger
from parity.draws.record import USES
from parity.held import decided, over_floor
from parity.report import charts, format, tables
from parity.schema import Row

_FORMATS = ("either", "figure", "quantity", "seconds", "slug", "times", "tone", "value")
_NUMBER = re.compile(r"(\d[\d.]*e-\d+)")
SHARED_SCRIPTS = ("theme", "common")


def render_page(template: str, *, scripts: tuple[str, ...] = SHARED_SCRIPTS, **context: Any) -> str:
    """Render a template that extends `page.html.j2`; `scripts` names the files under templates/ that may run.

    `@SIZE@` in the page becomes its size.
    """
    page = _environment().get_template(template)
    text = page.render(
        style=_asset("report.css"),
        scripts={name: _asset(f"{name}.js") for name in scripts},
        policy=_policy(scripts),
        **context,
    )
    return text.replace("@SIZE@", format.size(len(text.encode())))


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
    environment.filters.update(unbroken=_unbroken, over_floor=over_floor, apart=_apart)
    environment.filters.update(decided=decided, describe_scope=tables.describe_scope)
    environment.filters["draw_text"] = ledger.describe
    environment.globals.update(
        uses=USES, symbols=format.SYMBOLS, tally_bar=charts.tally_bar, columns=list(tables.UPDATE_COLUMNS)
    )
    return environment


def _apart(row: Row) -> tuple[str, str]:
    """The two values of a row's worst element."""
    return format.apart(row.worst_reference, row.worst_candidate)


def _unbroken(text: str) -> Markup:
    """Numbers such as 5.7e-07 kept on one line: browsers break after the hyphen."""
    parts = _NUMBER.split(text)
    spans = [Markup('<span class="unbroken">{}</span>').format(part) for part in parts[1::2]]
    return Markup("").join(part for pair in zip(parts[::2], [*spans, ""], strict=True) for part in pair)


def _asset(name: str) -> Markup:
    """A stylesheet or script of this package, which is trusted."""
    return Markup((Path(__file__).parent / "templates" / name).read_text(encoding="ascii"))


def _policy(scripts: tuple[str, ...]) -> str:
    """Nothing may be loaded; inline code runs only if it has one of these digests; images only as data URIs."""
    allowed = " ".join(_digest(_asset(f"{name}.js")) for name in scripts)
    return f"default-src 'none'; img-src data:; style-src {_digest(_asset('report.css'))}; script-src {allowed}"


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
