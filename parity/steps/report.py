"""What was found over many steps: terminal, steps.json, and the page steps.html. Nothing is judged here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from parity.files import write_atomically
from parity.noise import C
from parity.report.curves import Line, curve_chart, legend
from parity.report.format import NONE, SYMBOLS, times
from parity.report.page import render_page
from parity.schema import plain
from parity.steps.distance import FIGURES
from parity.steps.judge import SATURATED
from parity.steps.session import StepsReport
from parity.verdict import overall

TITLES = {
    "weights": "Distance of the weights, in units of the way trained so far",
    "length": "Difference in length of that way",
    "codes": "Distance of the codes, relative L2",
    "loss": "Difference of the loss, relative",
}
LEGEND = {"candidate": "modern", "noise": "legacy with one-ULP noise", "control": "legacy with a planted bug"}


def as_json(reports: Sequence[StepsReport]) -> str:
    """All figures; numbers that JSON cannot hold as the strings "inf" and "nan"."""
    return json.dumps({"schema": 1, "pipelines": [plain(report) for report in reports]}, indent=1)


def write_steps(reports: Sequence[StepsReport], out: Path, extra: Path | None = None) -> None:
    """Write steps.json and steps.html into `out`, and the former to `extra` too, each atomically."""
    document = as_json(reports).encode()
    out.mkdir(parents=True, exist_ok=True)
    for path in filter(None, (out / "steps.json", extra)):
        write_atomically(path, document)
    write_atomically(out / "steps.html", render_steps(reports).encode())


def render_steps(reports: Sequence[StepsReport]) -> str:
    """The page as text."""
    return render_page(
        "steps.html.j2",
        reports=reports,
        verdict=overall(report.judgement.verdict for report in reports),
        charts={report.pipeline: _charts(report) for report in reports},
        legend=legend(LEGEND),
        figures=FIGURES,
        c=C,
        saturated=SATURATED,
    )


def print_steps(reports: Sequence[StepsReport], console: Console) -> None:
    """One table of the judged steps for each pipeline, what the planted bugs showed, and the sentence."""
    for report in reports:
        console.print(_table(report))
        for name, grown in report.growths.items():
            saturates = f"saturates at step {grown.saturates_at}" if grown.saturates_at else "does not saturate"
            factor = f"x {grown.factor:.2g} a step, {saturates}" if grown.factor else "does not grow"
            console.print(f"{name}: {factor}", highlight=False)
        for name, step in report.controls.items():
            words = f"told at step {step.number}: {step.reason}" if step else "below resolution"
            console.print(f"planted {name}: {words}", highlight=False)
        verdict = report.judgement.verdict
        sentence = f"{report.pipeline}: {SYMBOLS[verdict]} {verdict}: {report.judgement.sentence}"
        console.print(Text(sentence, style="bold"), highlight=False)


def _table(report: StepsReport) -> Table:
    table = Table(title=f"{report.pipeline}: modern against legacy, each figure in units of noise", box=None)
    for column in ("step", "verdict", *FIGURES):
        table.add_column(column, justify="right" if column in FIGURES else "left")
    for step in report.judgement.steps[: max(report.horizon, 5)]:
        shown = [times(step.excess[name]) if step.excess else NONE for name in FIGURES]
        table.add_row(str(step.number), f"{SYMBOLS[step.verdict]} {step.verdict}", *shown)
    return table


def _charts(report: StepsReport) -> dict[str, Any]:
    """Title -> (axis, plot); noise is drawn first, so that modern lies on top."""
    order = ("noise", "control", "candidate")
    names = sorted(report.distances, key=lambda name: order.index(report.kinds[name]))
    return {
        TITLES[name]: curve_chart(
            [Line(name=arm, kind=report.kinds[arm], values=report.distances[arm].figures[name]) for arm in names],
            report.horizon,
            TITLES[name],
        )
        for name in TITLES
    }
