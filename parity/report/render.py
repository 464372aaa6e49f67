"""Results as one HTML file that opens by double click and asks the network for nothing.

Fixed parts are rendered here. Rows travel as gzipped JSON and become table rows in the browser when they are looked
at, so that thousands of them cost little. The content security policy admits exactly the page's own scripts and style.
"""

from __future__ import annotations

import base64
import gzip
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from parity.files import write_atomically
from parity.held import decided, over_floor
from parity.ledger import ledgers_of
from parity.report import charts, format, tables
from parity.report.page import SHARED_SCRIPTS, render_page
from parity.schema import Results, plain, to_json
from parity.verdict import Verdict

WARN_BYTES, LIMIT_BYTES = 3_000_000, 5_000_000
_LOG = logging.getLogger(__name__)
# Further pages that may lie beside the report -> what the link to them says.
PAGES = {"selftest.html": "How far this audit can be trusted: its self-test"}
_SIDES = ("legacy", "modern", "difference")


def render_report(results: Results, pages: Sequence[str] = ()) -> str:
    """The whole page as text; `pages` are those of `PAGES` that lie beside it."""
    return render_page(
        "report.html.j2",
        scripts=(*SHARED_SCRIPTS, "report"),
        r=results,
        pages={name: PAGES[name] for name in pages},
        payload=payload(results),
        pipelines=tables.stages_by_pipeline(results),
        charts={name: charts.pipeline_chart(results, name) for name in tables.stages_by_pipeline(results)},
        counts=tables.tally(row.verdict for row in results.rows),
        side_checks=tables.side_checks(results),
        observer=tables.observer_table(results),
        structure=[finding for finding in results.structure if not tables.is_observer(finding)],
        losses=tables.loss_tables(results),
        updates=_updates(results),
        ledgers=ledgers_of(results.draws),
    )


def write_report(results: Results, path: Path) -> None:
    """Render and write atomically; warns above `WARN_BYTES`.

    Raises:
        ValueError: the page would exceed `LIMIT_BYTES`.
    """
    beside = [name for name in PAGES if (path.parent / name).exists()]
    page = render_report(results, beside).encode()
    if len(page) > LIMIT_BYTES:
        found, allowed = format.size(len(page)), format.size(LIMIT_BYTES)
        raise ValueError(f"{path}: the report would be {found}, allowed {allowed}; use fewer or smaller pictures")
    if len(page) > WARN_BYTES:
        _LOG.warning("%s is %s; browsers stay quick below %s", path, format.size(len(page)), format.size(WARN_BYTES))
    write_atomically(path, page)


def payload(results: Results) -> str:
    """Everything but the images, which the page holds already: their places name the element that does."""
    pictures = [
        replace(picture, **{side: f"#picture-{index}-{side}" for side in _SIDES})  # type: ignore[arg-type]
        for index, picture in enumerate(results.pictures)
    ]
    frames = [replace(frame, image=f"#frame-{index}") for index, frame in enumerate(results.frames)]
    verdicts = {word: {"symbol": format.SYMBOLS[word], "tone": format.tone(word)} for word in Verdict}
    figures = plain([(over_floor(row), *decided(row, results.floor["c"])) for row in results.rows])
    document = {
        "results": to_json(replace(results, pictures=pictures, frames=frames)),
        "verdicts": verdicts,
        "decided": figures,
    }
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
