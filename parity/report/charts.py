"""Inline SVG without a plotting library. Horizontal positions are percentages, so charts follow the page's width."""

from __future__ import annotations

import math
from collections.abc import Mapping

from markupsafe import Markup

from parity.report.format import SYMBOLS, figure, slug, tone
from parity.report.tables import stages_by_pipeline, worst_by_stage
from parity.schema import Results, Row
from parity.verdict import Verdict

HEIGHT, TOP, BASE = 168, 10, 150  # px; BASE is where zero drift sits, below the smallest decade
_ZERO_GAP = 22  # px between the smallest decade and zero
_SIDE = {"isolated": -7, "chained": 7}  # px left and right of the stage's centre


class LogScale:
    """log10 of positive figures onto pixels, zero onto its own line."""

    def __init__(self, figures: list[float]) -> None:
        logs = [math.log10(x) for x in figures if x > 0 and math.isfinite(x)]
        self.low = math.floor(min(logs, default=-9.0))
        self.high = max(math.ceil(max(logs, default=0.0)), self.low + 3)

    def y(self, x: float) -> float:
        """Pixels from the top; infinity at the upper edge."""
        if x <= 0:
            return float(BASE)
        share = (min(math.log10(x) if math.isfinite(x) else self.high, self.high) - self.low) / (self.high - self.low)
        return round(BASE - _ZERO_GAP - share * (BASE - _ZERO_GAP - TOP), 1)

    def ticks(self) -> list[float]:
        """Four to six decades."""
        step = max(1, math.ceil((self.high - self.low) / 5))
        return [10.0**power for power in range(self.low, self.high + 1, step)]


def pipeline_chart(results: Results, pipeline: str) -> tuple[Markup, Markup]:
    """Worst relative L2 of each stage, isolated and chained, against what was allowed; (axis, plot) as two SVGs.

    The plot has one column per stage and is meant to stand right under the stage strip.
    """
    stages = stages_by_pipeline(results)[pipeline]
    worst = {key[1:]: row for key, row in worst_by_stage(results).items() if key[0] == pipeline}
    rows = {key: row for key, row in worst.items() if key[1] in _SIDE and row.rel_l2 is not None}
    scale = LogScale([x for row in rows.values() for x in (row.rel_l2 or 0.0, row.bound or 0.0)])
    lines = [_gridline(scale.y(tick)) for tick in [*scale.ticks(), 0.0]]
    marks = []
    for index, stage in enumerate(stages):
        centre = 100 * (index + 0.5) / len(stages)
        marks += [_mark(rows[stage.name, mode], mode, centre, scale) for mode in _SIDE if (stage.name, mode) in rows]
    axis = "".join(_label(scale.y(tick), figure(tick).replace("1.0e", "1e")) for tick in [*scale.ticks(), 0.0])
    return _svg("axis", axis, "scale of the chart"), _svg("plot", "".join([*lines, *marks]), "drift by stage")


def _mark(row: Row, mode: str, centre: float, scale: LogScale) -> Markup:
    """Bound as a tick, figure as a square (isolated) or disc (chained), the row's id as link target."""
    shift, y = _SIDE[mode], scale.y(row.rel_l2 or 0.0)
    shape = Markup('<rect x="-4.5" y="{}" width="9" height="9"/>').format(y - 4.5)
    if mode == "chained":
        shape = Markup('<circle cx="0" cy="{}" r="5"/>').format(y)
    bound = Markup("")
    if row.bound:
        at = scale.y(row.bound)
        bound = Markup('<line class="bound" x1="-6" x2="6" y1="{0}" y2="{0}"/>').format(at)
    title = f"{row.id}: {row.verdict}, relative L2 {figure(row.rel_l2)}, allowed {figure(row.bound)}"
    return Markup(
        '<svg x="{:.3f}%" overflow="visible"><a href="#{}" class="mark tone-{} v-{}" tabindex="-1"><title>{}</title>'
        '<g transform="translate({} 0)">{}{}</g></a></svg>'
    ).format(centre, row.id, tone(row.verdict), slug(row.verdict), title, shift, bound, shape)


def _gridline(y: float) -> Markup:
    return Markup('<line class="grid" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(y)


def _label(y: float, text: str) -> Markup:
    return Markup('<text x="100%" dx="-8" y="{}" text-anchor="end">{}</text>').format(y + 3.5, text)


def _svg(name: str, content: str, label: str) -> Markup:
    return Markup('<svg class="{}" width="100%" height="{}" role="img" aria-label="{}">{}</svg>').format(
        name, HEIGHT, label, Markup(content)
    )


def tally_bar(counts: Mapping[Verdict, int]) -> Markup:
    """Shares of the verdicts as one bar; each word is at least wide enough to be seen."""
    total, left, parts = sum(counts.values()), 0.0, []
    least = 1.2
    room = 100 - least * len(counts)
    for verdict, count in counts.items():
        width = least + room * count / total
        title = f"{SYMBOLS[verdict]} {verdict}: {count:,}"
        bar = Markup('<rect class="v-{}" x="{:.2f}%" width="{:.2f}%" height="100%"><title>{}</title></rect>')
        parts.append(bar.format(slug(verdict), left, max(width - 0.25, 0.1), title))
        left += width
    return Markup('<svg class="tally-bar" width="100%" height="10" role="img" aria-label="{}">{}</svg>').format(
        "shares of the verdicts", Markup("").join(parts)
    )
