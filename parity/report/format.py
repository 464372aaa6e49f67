"""How verdicts and numbers look, for the report's fixed parts and the terminal.

Colour family = exit code (blue: same, orange: not the same, grey: cannot tell); a symbol and the word always go along.
"""

from __future__ import annotations

import math
from typing import Literal

from parity.verdict import Verdict, exit_code

Tone = Literal["same", "differs", "unclear"]
_TONES: tuple[Tone, ...] = ("same", "differs", "unclear")
SYMBOLS: dict[Verdict, str] = {
    Verdict.IDENTICAL: "=",
    Verdict.ROUNDING: "\u2248",  # almost equal
    Verdict.KNOWN: "\u25c6",  # diamond
    Verdict.DRIFT: "\u2260",  # not equal
    Verdict.UNSTABLE: "\u00b1",  # plus-minus
    Verdict.NOT_EXERCISED: "\u25cb",  # circle
    Verdict.MISSING: "?",
    Verdict.ERROR: "!",
}
NONE = "\u2013"  # en dash: no such figure
_INFINITY = "\u221e"
_METRE_STEPS = ((1.0, "m"), (1e-3, "mm"), (1e-6, "\u00b5m"), (1e-9, "nm"), (1e-12, "pm"))


def tone(verdict: Verdict) -> Tone:
    """The colour family of a verdict: what it alone would do to the exit code."""
    return _TONES[exit_code([verdict])]


def slug(verdict: Verdict) -> str:
    """A verdict as a CSS class or a filter word."""
    return verdict.value.replace(" ", "-")


def figure(value: float | None) -> str:
    """A drift figure: 0, or mantissa and a two-digit exponent so that columns line up."""
    if value is None or math.isnan(value):
        return NONE
    if math.isinf(value):
        return _INFINITY
    return "0" if value == 0 else f"{value:.1e}"


def value(number: float | None) -> str:
    """A tensor's own value with 7 significant digits, about what float32 holds."""
    return NONE if number is None else f"{number:.7g}"


def apart(one: float | None, other: float | None) -> tuple[str, str]:
    """Two values with 7 significant digits, or as many as it takes to tell them apart; float64 never needs over 17."""
    found = (value(one), value(other))
    if one is None or other is None or one == other or found[0] != found[1]:
        return found
    pairs = [(f"{one:.{digits}g}", f"{other:.{digits}g}") for digits in (9, 12, 17)]
    return next(pair for pair in pairs if pair[0] != pair[1] or pair is pairs[-1])


def either(found: float | str | None) -> str:
    """A figure or words."""
    return found if isinstance(found, str) else figure(found)


def times(ratio: float | None) -> str:
    """How many times over: 0.031, 7.2, 340, 1.2e+06."""
    if ratio is None or math.isnan(ratio):
        return NONE
    if math.isinf(ratio):
        return _INFINITY
    if ratio == 0:
        return "0"
    return f"{ratio:.1e}" if ratio >= 1e5 or ratio < 1e-3 else f"{ratio:.2g}" if ratio < 100 else f"{ratio:,.0f}"


def quantity(number: float | None, unit: str) -> str:
    """A figure with its unit; lengths in metres get the SI prefix that leaves one to three digits before the point."""
    if not number or unit != "m" or not math.isfinite(number):
        return f"{figure(number)} {unit}".strip()
    factor, name = next((step for step in _METRE_STEPS if abs(number) >= step[0]), _METRE_STEPS[-1])
    return f"{number / factor:.3g} {name}"


def size(count: int) -> str:
    """A number of bytes in kB or MB."""
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def seconds(duration: float) -> str:
    """A duration as 0.4 s, 12 s or 3 min 05 s."""
    if duration < 10:
        return f"{duration:.1f} s"
    return f"{duration:.0f} s" if duration < 120 else f"{duration // 60:.0f} min {duration % 60:02.0f} s"
