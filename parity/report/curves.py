"""Curves over training steps as inline SVG, logarithmic downwards to a line of its own for zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from parity.report.charts import BASE, HEIGHT, LogScale
from parity.report.format import figure

_WIDTH = 1000  # of the inner coordinate system, stretched to the page


@dataclass(frozen=True, kw_only=True)
class Line:
    """One run's figure after each step; `kind` chooses colour and dashes."""

    name: str
    kind: str
    values: Sequence[float]


def curve_chart(lines: Sequence[Line], judged: int, label: str) -> tuple[Markup, Markup]:
    """(axis, plot) as two SVGs, to stand side by side; the first `judged` steps are shaded."""
    scale = LogScale([value for line in lines for value in line.values])
    steps = max((len(line.values) for line in lines), default=1)
    ticks = [*scale.ticks(), 0.0]
    axis = "".join(_tick(scale.y(tick), figure(tick).replace("1.0e", "1e")) for tick in ticks)
    grid = [Markup('<line class="grid" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(scale.y(tick)) for tick in ticks]
    shade = Markup('<rect class="judged" x="0" y="0" width="{:.2f}%" height="{}"/>').format(
        100 * _place(judged + 0.5, steps), BASE + 8
    )
    drawn = [_line(line, steps, scale) for line in lines]
    content = Markup("").join([shade if judged else Markup(""), *grid, *drawn, *_steps(steps)])
    return _svg("axis", Markup(axis), f"scale of {label}"), _svg("plot curves", content, label)


def swatch(kind: str) -> Markup:
    """A short piece of a line, for the legend."""
    return Markup(
        '<svg class="curves" width="26" height="10" aria-hidden="true">'
        '<line class="curve {}" x1="0" x2="26" y1="5" y2="5"/></svg>'
    ).format(kind)


def _place(step: float, steps: int) -> float:
    """Share of the width at which `step` (from 1) stands, with half a step of room at both ends."""
    return min((step - 0.5) / steps, 1.0)


def _line(line: Line, steps: int, scale: LogScale) -> Markup:
    points = [(_place(number, steps), scale.y(value)) for number, value in enumerate(line.values, start=1)]
    path = " ".join(f"{_WIDTH * x:.1f},{y}" for x, y in points)
    dots = Markup("").join(
        Markup('<circle class="dot {}" cx="{:.3f}%" cy="{}" r="2.6"><title>{}</title></circle>').format(
            line.kind, 100 * x, y, f"{line.name}, step {number}: {figure(value)}"
        )
        for number, ((x, y), value) in enumerate(zip(points, line.values, strict=True), start=1)
    )
    curve = Markup(
        '<svg viewBox="0 0 {} {}" preserveAspectRatio="none" width="100%" height="{}">'
        '<polyline class="curve {}" points="{}"/></svg>'
    ).format(_WIDTH, HEIGHT, HEIGHT, line.kind, path)
    return curve + dots


def _steps(steps: int) -> list[Markup]:
    """Numbers of steps along the bottom."""
    every = max(1, round(steps / 10))
    shown = sorted({1, *range(every, steps + 1, every)})
    mark = Markup('<text x="{:.2f}%" y="{}" text-anchor="middle">{}</text>')
    return [mark.format(100 * _place(step, steps), HEIGHT + 2, step) for step in shown]


def _tick(y: float, text: str) -> Markup:
    return Markup('<text x="100%" dx="-8" y="{}" text-anchor="end">{}</text>').format(y + 3.5, text)


def _svg(name: str, content: Markup, label: str) -> Markup:
    return Markup('<svg class="{}" width="100%" height="{}" role="img" aria-label="{}">{}</svg>').format(
        name, HEIGHT + 8, label, content
    )


def legend(kinds: Mapping[str, str]) -> list[tuple[Markup, str]]:
    """(swatch, words) of each kind of line."""
    return [(swatch(kind), words) for kind, words in kinds.items()]
