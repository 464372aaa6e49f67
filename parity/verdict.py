"""From figures to words, once: the verdict of a tensor, the worst of many, and the exit code.

Words and exit codes are defined in docs/verdicts.md. No tolerance is typed here: what is not the same bytes is held
against the measured noise floor times one factor c.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import StrEnum

from parity.comparison import Drift
from parity.noise import C, Floor


class Verdict(StrEnum):
    """What may be said of a comparison, from best to worst."""

    IDENTICAL = "identical"
    ROUNDING = "rounding"
    KNOWN = "known"
    NOT_EXERCISED = "not exercised"
    MISSING = "missing"
    ERROR = "error"
    UNSTABLE = "unstable"
    DRIFT = "drift"


# Largest relative error of rounding a number of a type: half the distance between 1 and the next.
ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
SAME = frozenset({Verdict.IDENTICAL, Verdict.ROUNDING, Verdict.KNOWN})
_SEVERITY = {word: rank for rank, word in enumerate(Verdict)}


def judge(drift: Drift, floor: Floor | None, c: float = C) -> tuple[Verdict, str]:
    """The verdict of one comparison and the reason in a few words."""
    if drift.structural:
        return Verdict.DRIFT, drift.structural
    if drift.bitwise:
        return Verdict.IDENTICAL, "same bytes"
    if floor is None:
        return Verdict.MISSING, "differs, and no noise floor was measured for it"
    if drift.exact:
        return _judge_exact(drift, floor, c)
    found = excess(drift, floor)
    if found <= c:
        return Verdict.ROUNDING, f"{found:.2g} x noise floor"
    return Verdict.DRIFT, f"{found:.2g} x noise floor, allowed {c:g}"


def excess(drift: Drift, floor: Floor | None) -> float:
    """How many times the noise floor a drift is, by its worst figure; infinite without floor or structure.

    The rounding of the result itself is part of every floor: half a unit in the last place of its largest element. A
    scalar that no perturbation happened to move would otherwise be held to its last bit.
    """
    return deciding(drift, floor)[0]


def deciding(drift: Drift, floor: Floor | None) -> tuple[float, str, float | None]:
    """`excess`, and the figure that makes it, by name and value: the one that decides the verdict."""
    if drift.bitwise:
        return 0.0, "relative L2", drift.rel_l2
    if drift.structural or floor is None:
        return math.inf, "relative L2", drift.rel_l2
    if drift.exact:
        return _ratio(drift.differing, floor.differing), "elements that differ", drift.differing
    relative, largest = _ratio(drift.rel_l2, floor.rel_l2), _ratio(drift.max_abs, floor.max_abs)
    if drift.scaled_ulp is not None and math.isfinite(drift.scaled_ulp) and drift.dtype in ROUNDOFF:
        relative = min(relative, _ratio(drift.rel_l2, ROUNDOFF[drift.dtype]))
        largest = min(largest, 2 * drift.scaled_ulp)
    if largest > relative:
        return largest, "largest difference", drift.max_abs
    return relative, "relative L2", drift.rel_l2


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The most severe word; `not exercised` for nothing at all."""
    return max(verdicts, key=_SEVERITY.__getitem__, default=Verdict.NOT_EXERCISED)


def overall(verdicts: Iterable[Verdict]) -> Verdict:
    """The word for a whole audit: the most severe one of what was exercised."""
    return worst(word for word in verdicts if word is not Verdict.NOT_EXERCISED)


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """0 same, 1 not the same, 2 cannot tell; `not exercised` beside real agreement does not spoil it."""
    words = set(verdicts)
    if Verdict.DRIFT in words:
        return 1
    if words & {Verdict.UNSTABLE, Verdict.MISSING, Verdict.ERROR}:
        return 2
    return 0 if words & SAME else 2


def _judge_exact(drift: Drift, floor: Floor, c: float) -> tuple[Verdict, str]:
    share = f"{drift.differing} of {drift.count} elements differ; {floor.differing} flip under one-ULP noise"
    if drift.differing > c * floor.differing:
        return Verdict.DRIFT, share
    if drift.margin is None or floor.margin is None:
        return Verdict.ROUNDING, f"{share}; deciding margins are not available, so their number alone is judged"
    margins = f"widest deciding margin {drift.margin:.2g}, of those that noise flips {floor.margin:.2g}"
    return (Verdict.ROUNDING if drift.margin <= c * floor.margin else Verdict.DRIFT), f"{share}; {margins}"


def _ratio(figure: float | None, floor: float) -> float:
    if not figure:
        return 0.0
    return figure / floor if floor else float("inf")
