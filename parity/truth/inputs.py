"""Paired inputs: the recorded clip and clips a few percent away from it, from which legacy computes the rest.

Only what enters the pipeline from outside is changed; every stage is then given what legacy's float32 stages before it
made of that. So the inputs of a stage belong together (a mesh and its raster, an image and its features), which they
would not if each were changed by itself.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from parity.stages import Pipeline, Stage

AMOUNT = 0.03  # far above rounding, so that every intermediate value rounds anew; far below what makes another clip
_HELD = frozenset({"batch/mask", "batch/face_mask"})  # classes of pixels, not measured numbers
_STEPS = 3  # an optimizer in the middle of a run: its moments are not empty and its bias correction is at work


def jittered(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """A copy scaled by one factor and each element by its own, both within `AMOUNT` of 1, kept in the tensor's range.

    Zeros stay zero, an image stays within 0..1, a confidence of 1 may only fall.
    """
    whole = 1 + AMOUNT * (2 * torch.rand((), generator=generator) - 1)
    each = 1 + AMOUNT * (2 * torch.rand(tensor.shape, generator=generator) - 1)
    return (tensor * (whole * each)).clamp(tensor.min(), tensor.max())


def clip_of_input(batch: Mapping[str, Tensor], index: int) -> dict[str, Tensor]:
    """The batch of one paired input, by the names that stages use; input 0 is the recorded one."""
    found = {name: tensor.clone() for name, tensor in batch.items()}
    if index == 0:
        return found
    generator = torch.Generator().manual_seed(index)
    for name in sorted(found.keys() - _HELD - {"batch/centre"}):
        found[name] = jittered(found[name], generator)
    if "batch/centre" in found:
        found["batch/centre"] = found["batch/image"][1:2].clone()
    return found


def mid_run(inputs: Mapping[str, Tensor], index: int) -> dict[str, Tensor]:
    """An update's inputs with the moments that a few steps on similar gradients leave behind."""
    generator, found = torch.Generator().manual_seed(index), dict(inputs)
    for name in [name for name in inputs if name.startswith("gradient/")]:
        key, gradient = name.removeprefix("gradient/"), jittered(inputs[name], generator)
        found[f"exp_avg/{key}"] = (1 - 0.9**_STEPS) * gradient
        found[f"exp_avg_sq/{key}"] = (1 - 0.999**_STEPS) * gradient.square()
    return found | {"step": torch.tensor(_STEPS)}


def needed(pipeline: Pipeline, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The stages that must run so that `wanted` get their inputs, in pipeline order, `wanted` among them."""
    found, waiting = set(), list(wanted)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += sorted(_sources(pipeline.by_name[name]) & set(pipeline.names))
    return pipeline.select(tuple(found))


def _sources(stage: Stage) -> set[str]:
    own = {key.split("/")[0] for key in stage.inputs.values()}
    return own | ({stage.gradients} if stage.gradients else set())
