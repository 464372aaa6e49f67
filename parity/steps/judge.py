"""From distances to words: only the first steps are judged by numbers, and only against noise's own growth.

Beyond them, or once noise alone has saturated, a number would say nothing: chaos makes a bug and rounding look alike.
Equal bytes need no such care and may be claimed for as many steps as there are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from parity.noise import C
from parity.steps.arms import FIRST_STEPS
from parity.steps.distance import FIGURES, Distance
from parity.verdict import Verdict, worst

SATURATED = 0.1  # noise that has come this far of the way trained hides everything: no number is judged any more


@dataclass(frozen=True, kw_only=True)
class Growth:
    """How a distance grows: factor per step up to saturation, and the step from which it stays where it ends.

    None where there is too little to measure: fewer than three steps that differ, or no end in sight.
    """

    factor: float | None
    saturates_at: int | None


@dataclass(frozen=True, kw_only=True)
class Step:
    """One judged step. excess: figure -> how many times noise's own; infinite where noise shows none."""

    number: int
    verdict: Verdict
    reason: str
    excess: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What may be said of a run against the reference."""

    verdict: Verdict
    sentence: str
    steps: list[Step]


def horizon(noise: Mapping[str, Distance]) -> int:
    """The last step that may be judged by numbers."""
    last = 0
    for step in range(min([FIRST_STEPS, *(len(arm.equal) for arm in noise.values())])):
        if max((arm.figures["weights"][step] for arm in noise.values()), default=math.inf) >= SATURATED:
            break
        last = step + 1
    return last


def floors(noise: Mapping[str, Distance], step: int) -> dict[str, float]:
    """Figure -> the largest that any noise arm shows after `step` (counted from 0)."""
    return {name: max(arm.figures[name][step] for arm in noise.values()) for name in FIGURES}


def judge_run(run: Distance, noise: Mapping[str, Distance], resolved: bool) -> Judgement:
    """Judge every step of `run`.

    Args:
        run: the candidate against the reference.
        noise: arms that differ from the reference by noise only.
        resolved: whether a planted bug was told from noise here; if none was, being within noise proves nothing.
    """
    total, last = len(run.equal), horizon(noise)
    if run.identical_through == total:
        steps = [Step(number=k + 1, verdict=Verdict.IDENTICAL, reason="same bytes", excess={}) for k in range(total)]
        return Judgement(verdict=Verdict.IDENTICAL, sentence=f"identical through step {total}", steps=steps)
    steps = [_step(run, noise, step, last) for step in range(total)]
    judged = [step.verdict for step in steps if step.verdict is not Verdict.NOT_EXERCISED]
    verdict = worst(judged)
    if not last:
        sentence = "noise saturates within the first step: numbers can tell nothing here"
        return Judgement(verdict=Verdict.NOT_EXERCISED, sentence=sentence, steps=steps)
    if verdict is Verdict.DRIFT:
        first = next(step for step in steps if step.verdict is Verdict.DRIFT)
        return Judgement(verdict=verdict, sentence=f"drifts at step {first.number}: {first.reason}", steps=steps)
    if not resolved:
        sentence = f"within noise through step {last}, but so is every planted bug: this proves nothing"
        return Judgement(verdict=Verdict.NOT_EXERCISED, sentence=sentence, steps=steps)
    start = f"same bytes through step {run.identical_through}, " if run.identical_through else ""
    sentence = f"{start}within {C:g} x noise through step {last}; later steps are chaos and not judged"
    return Judgement(verdict=verdict, sentence=sentence, steps=steps)


def told(run: Distance, noise: Mapping[str, Distance]) -> Step | None:
    """The first step at which a planted bug is told from noise; None if it is below resolution."""
    steps = [_step(run, noise, step, horizon(noise)) for step in range(len(run.equal))]
    return next((step for step in steps if step.verdict is Verdict.DRIFT), None)


def growth(figures: Sequence[float]) -> Growth:
    """Growth of one figure; zeros at the start are not part of it."""
    values = np.asarray(figures, dtype=np.float64)
    moved = np.flatnonzero(values > 0)
    if len(moved) < 3:
        return Growth(factor=None, saturates_at=None)
    saturated = _saturation(values)
    end = saturated if saturated is not None else len(values) - 1
    rising = [step for step in moved if step <= end]
    if len(rising) < 3:
        return Growth(factor=None, saturates_at=None if saturated is None else saturated + 1)
    slope = np.polyfit(rising, np.log(values[rising]), 1)[0]
    return Growth(factor=float(np.exp(slope)), saturates_at=None if saturated is None else saturated + 1)


def _saturation(values: np.ndarray) -> int | None:
    """First index from which the values stay above half of where they end; None while they still rise at the end."""
    tail = values[-max(len(values) // 5, 2) :]
    end = float(np.median(tail))
    if end < SATURATED or tail.max() > 2 * tail.min():
        return None
    below = np.flatnonzero(values < end / 2)
    return int(below[-1]) + 1 if len(below) else 0


def _step(run: Distance, noise: Mapping[str, Distance], step: int, last: int) -> Step:
    number = step + 1
    if run.identical_through >= number:
        return Step(number=number, verdict=Verdict.IDENTICAL, reason="same bytes", excess={})
    if number > last:
        return Step(number=number, verdict=Verdict.NOT_EXERCISED, reason="beyond the first steps", excess={})
    floor = floors(noise, step)
    excess = {name: _ratio(run.figures[name][step], floor[name]) for name in FIGURES}
    name, largest = max(excess.items(), key=lambda item: item[1])
    if largest > C:
        reason = f"{name} {run.figures[name][step]:.2g} is {largest:.2g} x noise, allowed {C:g}"
        return Step(number=number, verdict=Verdict.DRIFT, reason=reason, excess=excess)
    return Step(number=number, verdict=Verdict.ROUNDING, reason=f"{largest:.2g} x noise ({name})", excess=excess)


def _ratio(figure: float, floor: float) -> float:
    if not figure:
        return 0.0
    return figure / floor if floor else math.inf
