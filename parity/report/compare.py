"""The page of a comparison of two recordings."""

from __future__ import annotations

from pathlib import Path

from parity.files import write_atomically
from parity.matching import Matching
from parity.report import tables
from parity.report.page import SHARED_SCRIPTS, render_page
from parity.report.render import payload
from parity.schema import Results
from parity.verdict import Verdict, worst


def write_compare_page(results: Results, matching: Matching, path: Path) -> None:
    """Render and write atomically; rows and figures as in the report of an audit."""
    page = render_page(
        "compare.html.j2",
        scripts=(*SHARED_SCRIPTS, "report"),
        r=results,
        matching=matching,
        payload=payload(results),
        counts=tables.tally(row.verdict for row in results.rows),
        worst={stage: row for (_, stage, _), row in tables.worst_by_stage(results).items()},
        by_step={stage.name: _by_step(results, stage.name) for stage in results.stages},
        losses=[row for row in results.rows if row.stage in tables.LOSS_STAGES],
    )
    write_atomically(path, page.encode())


def _by_step(results: Results, stage: str) -> tuple[Verdict | None, Verdict | None]:
    """Worst verdict of a stage in the first step, and in all later ones; None where nothing was recorded."""
    own = [row for row in results.rows if row.stage == stage]
    parts = [row.verdict for row in own if not row.step], [row.verdict for row in own if row.step]
    return tuple(worst(words) if words else None for words in parts)  # type: ignore[return-value]
