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
        Fix(
            id="D25",
            defect="the generator's displacement is within (-1,1) metres; model.max_z is read and ignored",
            effect="it is multiplied by model.max_displacement",
            stages=("detail",),
        ),
        Fix(
            id="D32",
            defect="both targets of the discriminator are smoothed, which biases its optimum on painted pictures",
            effect="painted pictures are to be judged 0 instead of 0.1",
            stages=("detail",),
        ),
        Fix(
            id="D37",
            defect="the action-unit term takes probabilities for logits and the photograph's for the prediction, so its"
            " gradient is never zero and pulls every action unit up",
            effect="cross entropy of the painted picture's probabilities against the photograph's",
            stages=("detail",),
        ),
        Fix(
            id="D39",
            defect="both frozen action-unit networks normalise with the statistics of the batch, and their running"
            " statistics drift",
            effect="they stay in evaluation mode; a picture's features no longer depend on its neighbours",
            stages=("detail",),
        ),
        Fix(
            id="D43",
            defect="z_sym is a sum over batch and texels while the other terms are means, and outweighs them",
            effect="it is a mean",
            stages=("detail",),
        ),
        Fix(
            id="G31",
            defect="within the mask but off the head, the final image shows the centre of the texture map",
            effect="the photograph is kept there",
            stages=("detail",),
        ),
    )
}


def fixes_of(stage: str) -> list[str]:
    """Ids of the fixes that a pipeline knows."""
    return [fix.id for fix in FIXES.values() if stage in fix.stages]


def check_fixes(ids: Collection[str], stage: str) -> None:
    """Raise ValueError if one of `ids` is not registered for the pipeline."""
    if unknown := sorted(set(ids) - set(fixes_of(stage))):
        raise ValueError(f"unknown fix {', '.join(unknown)}; registered: {', '.join(fixes_of(stage))}")
