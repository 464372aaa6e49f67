"""Registered departures from legacy defects: off by default, switched on by id in the configuration's `fixes`.

Ids are those of the list of suspected defects, docs/defects.md.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Fix:
    """One departure.

    Attributes:
        id: of the defect.
        defect: what legacy does, and this package too by default.
        effect: what changes when the fix is on.
        stages: pipelines that know it.
    """

    id: str
    defect: str
    effect: str
    stages: tuple[str, ...] = ("coarse",)


FIXES: dict[str, Fix] = {
    fix.id: fix
    for fix in (
        Fix(
            id="D12",
            defect="the action-unit feature loss is multiplied by the weight of the emotion loss",
            effect="it is multiplied by its own weight, loss.action_unit_feature",
        ),
        Fix(
            id="D13",
            defect="the action-unit networks read raw RGB in 0..1 although they were trained on normalised images",
            effect="their input is normalised with ImageNet's mean and standard deviation",
            stages=("coarse", "detail"),
        ),
    )
}


def check_fixes(ids: Collection[str], stage: str) -> None:
    """Raise ValueError if one of `ids` is not registered for the pipeline."""
    registered = [fix.id for fix in FIXES.values() if stage in fix.stages]
    if unknown := sorted(set(ids) - set(registered)):
        raise ValueError(f"unknown fix {', '.join(unknown)}; registered: {', '.join(registered)}")
