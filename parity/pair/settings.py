"""What two optimizers would do to each weight - class and settings - held against one another by the weight map."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from parity.optimizer import differing_settings
from parity.pair.names import WeightMap
from parity.pair.side import Side

# How a step is carried out, not what it computes.
_CARRIED_OUT = frozenset({"params", "param_names", "foreach", "fused", "capturable", "differentiable"})


def compare_settings(weights: WeightMap, sides: tuple[Side, Side]) -> tuple[str, ...]:
    """Differences of the two optimizers, in words, with the candidate's names; empty without two optimizers."""
    left, right = (side.optimizer for side in sides)
    if left is None or right is None:
        return ()
    theirs, ours = (_facts(side.model, optimizer) for side, optimizer in zip(sides, (left, right), strict=True))
    before: dict[str, dict[str, Any]] = {}
    after: dict[str, dict[str, Any]] = {}
    said = []
    for key, match in weights.matches.items():
        owned = [name in theirs for name in match.reference]
        if key in ours and all(owned):
            for name in match.reference:
                label = key if len(match.reference) == 1 else f"{key} ({name})"
                before[label], after[label] = theirs[name], ours[key]
        elif key in ours or any(owned):
            said.append(f"only the {('reference', 'candidate')[key in ours]}'s optimizer updates {key}")
    return (*differing_settings(list(before), before, after), *said)


def _facts(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Any]]:
    """Class and settings by the name of each trained parameter that the optimizer holds."""
    names = {id(parameter): name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {
        names[id(parameter)]: {
            "class": type(optimizer).__name__,
            **{key: _plain(value) for key, value in group.items() if key not in _CARRIED_OUT},
        }
        for group in optimizer.param_groups
        for parameter in group["params"]
        if id(parameter) in names
    }


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, Tensor) else value
