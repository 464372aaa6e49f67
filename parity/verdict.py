"""From figures to words, once: the verdict of a tensor, the worst of many, and the exit code.

Words and exit codes are defined in docs/verdicts.md. No tolerance is typed here: what is not the same bytes is held
against the measured noise floor times one factor c.
"""

from __future__ import annotations

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
    excess = max(_ratio(drift.rel_l2, floor.rel_l2), _ratio(drift.max_abs, floor.max_abs))
    if excess <= c:
        return Verdict.ROUNDING, f"{excess:.2g} x noise floor"
    return Verdict.DRIFT, f"{excess:.2g} x noise floor, allowed {c:g}"


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
