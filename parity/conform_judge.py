"""The outcome of one recorded vector: computed, compared, judged by its rule; nothing here raises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from parity.comparison import compare
from parity.conform_report import Outcome, Vector
from parity.coverage import Rule, judge
from parity.discrepancies import RecordedDiscrepancy

_ABSENT, _DIFFERENT = "absent", "different"


class Recipe(Protocol):
    """How the vectors of one stem are computed.

    face_ids: the vector that says which face a pixel shows; None where a recording has none and all pixels count.
    """

    face_ids: str | None

    def order(self, name: str) -> int:
        """Sort key that puts vectors of one run beside each other."""
        ...

    def compute(self, name: str) -> Tensor:
        """The subject's value of a vector; raises LookupError if recipe or subject does not know it."""
        ...


def judged_vector(
    name: str, rule: Rule, recorded: Mapping[str, Tensor], recipe: Recipe, given: Mapping[str, Tensor]
) -> Vector:
    """Compute and judge a vector that is asked of the subject."""
    note = "stored input, used as given" if name in given else rule.note
    row: dict[str, Any] = {"name": name, "metric": rule.metric, "bound": rule.bound, "note": note}
    try:
        computed = recipe.compute(name).detach().cpu()
        return _judged(row, rule, recorded[name], computed, _same_face(rule, recorded, recipe, name))
    except Exception as error:  # one vector that cannot be had must not hide the others
        if rule.metric == "info":
            return Vector(outcome=Outcome.INFO, **row)
        return Vector(outcome=Outcome.NOT_COMPUTED, **{**row, "note": told(error)})


def known_vector(
    name: str, rule: Rule, recorded: Mapping[str, Tensor], recipe: Recipe, entry: RecordedDiscrepancy
) -> Vector:
    """Whether a registered discrepancy is exactly as registered; if it changed or vanished, that is a disagreement."""
    row: dict[str, Any] = {"name": name, "metric": rule.metric, "bound": rule.bound}
    registered = f"{entry.id}: {entry.reason}"
    try:
        computed = recipe.compute(name).detach().cpu()
    except LookupError as error:
        if entry.modern == _ABSENT:
            return Vector(outcome=Outcome.KNOWN, note=registered, **row)
        return Vector(outcome=Outcome.NOT_COMPUTED, note=told(error), **row)
    except Exception as error:
        return Vector(outcome=Outcome.NOT_COMPUTED, note=told(error), **row)
    if entry.modern == _ABSENT:
        return Vector(outcome=Outcome.DISAGREES, note=f"{entry.id} is registered as absent, but it is there", **row)
    judged = _judged({**row, "note": registered}, rule, recorded[name], computed, None)
    if entry.modern == _DIFFERENT:
        as_registered = judged.outcome is Outcome.DISAGREES
        found = "agrees with the recording"
    else:
        as_registered = bool((computed.to(torch.float64) == float(entry.modern)).all())
        found = f"is {computed.flatten()[:3].tolist()}, not {entry.modern}"
    if as_registered:
        return Vector(**{**vars(judged), "outcome": Outcome.KNOWN})
    note = f"{entry.id} is registered as {entry.modern}, but the value {found}"
    return Vector(**{**vars(judged), "outcome": Outcome.DISAGREES, "note": note})


def unjudged_vector(name: str, rule: Rule | None, subject: str, problem: str = "") -> Vector:
    """A vector no figure exists for: not asked of this subject, or asked and not reached because of `problem`."""
    if rule is None:
        return Vector(name=name, outcome=Outcome.NOT_ASKED, note="no rule in coverage.json matches")
    if subject in rule.subjects:
        return Vector(name=name, outcome=Outcome.NOT_COMPUTED, metric=rule.metric, bound=rule.bound, note=problem)
    note = f"asked of {', '.join(rule.subjects) or 'nobody'}, not of {subject}"
    note += f": {rule.note}" if rule.note else ""
    return Vector(name=name, outcome=Outcome.NOT_ASKED, metric=rule.metric, bound=rule.bound, note=note)


def told(error: Exception) -> str:
    """An error in one line."""
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _same_face(rule: Rule, recorded: Mapping[str, Tensor], recipe: Recipe, name: str) -> Tensor | None:
    if rule.metric != "raster":
        return None
    if recipe.face_ids is None:
        return torch.ones(recorded[name].shape[-2:], dtype=torch.bool)
    if recipe.face_ids not in recorded:
        return None
    return recorded[recipe.face_ids].to(torch.int64) == recipe.compute(recipe.face_ids).cpu()


def _judged(row: dict[str, Any], rule: Rule, recorded: Tensor, computed: Tensor, same_face: Tensor | None) -> Vector:
    if recorded.is_floating_point():
        computed = computed.to(recorded.dtype)
    else:  # ids and masks are stored in small integer types; float64 holds both sides without loss
        recorded, computed = recorded.to(torch.float64), computed.to(torch.float64)
    drift = compare(recorded, computed)
    if drift.structural:
        return Vector(outcome=Outcome.DISAGREES, bitwise=False, **{**row, "note": drift.structural})
    measured: dict[str, Any] = {"max_abs": drift.max_abs, "rel_l2": drift.rel_l2, "bitwise": drift.bitwise}
    if rule.metric == "info":
        return Vector(outcome=Outcome.INFO, **measured, **row)
    figure, within = judge(rule, recorded, computed, same_face)
    outcome = Outcome.AGREES if within else Outcome.DISAGREES
    return Vector(outcome=outcome, figure=figure, **measured, **row)
