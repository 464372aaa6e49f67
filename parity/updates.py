"""Optimizer updates taken apart: what an update stage is replayed on, and several updates on equal gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from parity.stages import Pipeline, Stage
from parity.subject import StateDicts

UPDATES = 5
Replay = Callable[[str, dict[str, Tensor]], dict[str, Tensor]]


def initial_parameters(pipeline: Pipeline, stage: str, weights: StateDicts) -> dict[str, Tensor]:
    """What `stage` updates, before the first step, by the keys it uses."""
    return {
        f"{module}/{key}" if stage in pipeline.prefixed else key: value
        for module in pipeline.trained[stage]
        for key, value in weights[module].items()
    }


def update_inputs(
    pipeline: Pipeline, stage: Stage, weights: StateDicts, world: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Inputs of the first update: initial parameters, recorded gradients, empty moments.

    Parameters that the reference never updated (no recorded moments) are left out.
    """
    parameters, inputs = initial_parameters(pipeline, stage.name, weights), {"step": torch.tensor(0)}
    for key, parameter in parameters.items():
        gradient = world.get(f"{stage.gradients}/{key}")
        if gradient is None or f"{stage.name}/exp_avg/{key}" not in world:
            continue
        inputs[f"parameter/{key}"] = parameter.clone()
        inputs[f"gradient/{key}"] = gradient
        inputs[f"exp_avg/{key}"] = torch.zeros_like(gradient)
        inputs[f"exp_avg_sq/{key}"] = torch.zeros_like(gradient)
    return inputs


def repeated_update(stage: str, inputs: dict[str, Tensor], replay: Replay) -> dict[str, Tensor]:
    """Moments and parameters after several updates on the same gradients: only the optimizer can make a difference."""
    gradients = {key: value for key, value in inputs.items() if key.startswith("gradient/")}
    for step in range(UPDATES):
        inputs = replay(stage, inputs | gradients | {"step": torch.tensor(step)})
    return inputs
