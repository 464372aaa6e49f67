"""The page of a truth run: every distance as a dot, both sides on one logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from statistics import median

from markupsafe import Markup

from parity.files import write_atomically
from parity.report.format import figure, times
from parity.report.page import render_page
from parity.truth.schema import TruthResults, TruthRow, Word

HEIGHT = 30  # px of one row's plot: legacy's dots above, modern's below
_ROWS = {"legacy": 9, "modern": 21}
# Colour family and symbol of each word, as the audit's verdicts have them.
LOOKS = {
    Word.SAME_ERROR: ("same", "identical", "="),
    Word.CLOSER: ("same", "known", "<"),
    Word.SAME_SIZE: ("same", "rounding", "\u2248"),
    Word.FARTHER: ("differs", "drift", ">"),
    Word.OTHER_FORMULA: ("differs", "drift", "\u2260"),
    Word.ERROR: ("unknown", "error", "!"),
}


class Axis:
    """log10 of a distance as a percentage of the plot's width; zero has a place of its own at the left."""

    def __init__(self, figures: Sequence[float]) -> None:
        logs = [math.log10(x) for x in figures if x > 0 and math.isfinite(x)]
        self.low, self.high = math.floor(min(logs, default=-8)), math.ceil(max(logs, default=-7))
        self.high = max(self.high, self.low + 2)

    def x(self, distance: float) -> float:
        """Percent from the left."""
        if distance <= 0:
            return 3.0
        return 10 + 86 * (math.log10(distance) - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """At most seven decades."""
        step = max(1, math.ceil((self.high - self.low) / 6))
        return [10.0**power for power in range(self.low, self.high + 1, step)]


def render_truth(results: TruthResults) -> str:
    """The whole page as text."""
    axis = Axis([x for row in results.rows for x in (*row.legacy, *row.modern)])
    pipelines = {name: list(rows) for name, rows in groupby(results.rows, key=lambda row: row.pipeline)}
    return render_page(
        "truth.html.j2",
        t=results,
        pipelines=pipelines,
        plots={row.name: dot_plot(row, axis) for row in results.rows},
        axis=tick_row(axis),
        looks=LOOKS,
        counts=results.counts(),
        middle=lambda values: figure(median(values)) if values else "\u2013",
        times=times,
    )


def write_truth_page(results: TruthResults, path: Path) -> None:
    """Render and write atomically."""
    write_atomically(path, render_truth(results).encode())


def dot_plot(row: TruthRow, axis: Axis) -> Markup:
    """One dot per input and side; squares for legacy, discs for modern, a tick at each median."""
    marks = [_grid(axis.x(tick)) for tick in axis.ticks()]
    for side, y in _ROWS.items():
        values = getattr(row, side)
        marks += [_dot(side, axis.x(value), y) for value in values]
        if values:
            marks.append(
                Markup('<line class="bound" x1="{0:.2f}%" x2="{0:.2f}%" y1="{1}" y2="{2}"/>').format(
                    axis.x(median(values)), y - 6, y + 6
                )
            )
    label = f"{row.name}: legacy and modern against truth"
    svg = '<svg class="dots" width="100%" height="{}" role="img" aria-label="{}">{}</svg>'
    return Markup(svg).format(HEIGHT, label, Markup("").join(marks))


def tick_row(axis: Axis) -> Markup:
    """The axis above the plots."""
    text = '<text x="{:.2f}%" y="12" text-anchor="middle">{}</text>'
    ticks = [(3.0, "0")] + [(axis.x(tick), figure(tick).replace("1.0e", "1e")) for tick in axis.ticks()]
    labels = Markup("").join(Markup(text).format(x, label) for x, label in ticks)
    return Markup(
        '<svg class="axis" width="100%" height="16" role="img" aria-label="distance from truth">{}</svg>'
    ).format(labels)


def _dot(side: str, x: float, y: int) -> Markup:
    if side == "legacy":
        return Markup(
            '<svg x="{:.2f}%" overflow="visible"><rect class="legacy" x="-3" y="{}" width="6" height="6"/></svg>'
        ).format(x, y - 3)
    return Markup('<circle class="modern" cx="{:.2f}%" cy="{}" r="3.2"/>').format(x, y)


def _grid(x: float) -> Markup:
    return Markup('<line class="grid" x1="{0:.2f}%" x2="{0:.2f}%" y1="0" y2="100%"/>').format(x)
