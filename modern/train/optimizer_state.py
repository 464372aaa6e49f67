"""Optimizer states on disk: tensors by "index of parameter/name", in one file for each optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer

from modern.checkpoint import CheckpointError

ParameterStates = dict[int, dict[str, Tensor]]


def write_optimizer(file: Path, optimizer: Optimizer) -> None:
    """Write the state of an optimizer, without its settings."""
    write_states(file, optimizer.state_dict()["state"])


def write_states(file: Path, states: Mapping[int, Mapping[str, Any]]) -> None:
    """As `write_optimizer`, from the states by index of parameter; numbers, as old files have them, become tensors."""
    named = ((f"{index}/{name}", value) for index, entries in states.items() for name, value in entries.items())
    save_file(savable({key: torch.as_tensor(value) for key, value in named}), file)


def read_optimizer(file: Path) -> ParameterStates:
    """What `write_optimizer` wrote.

    Raises:
        CheckpointError: if it cannot be read.
    """
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file}: damaged or incomplete ({error}); resume from another step") from error
    states: ParameterStates = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition("/")
        states.setdefault(int(index), {})[name] = tensor
    return states


def fill_optimizer(optimizer: Optimizer, states: ParameterStates, groups: list[dict[str, Any]] | None = None) -> None:
    """Replace an optimizer's state, after checking that every entry fits its parameter, which torch does not.

    Args:
        optimizer: to be filled.
        states: of its parameters, by index.
        groups: its settings as `state_dict` gives them; None keeps those it has.

    Raises:
        CheckpointError: if it is the state of other parameters.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, entries in states.items():
        wanted = parameters[index].shape if index < len(parameters) else None
        if wanted is None or any(value.ndim and value.shape != wanted for value in entries.values()):
            raise CheckpointError(f"optimizer state of parameter {index} belongs to another model; load this one's")
    try:
        optimizer.load_state_dict({"state": states, "param_groups": groups or optimizer.state_dict()["param_groups"]})
    except ValueError as error:
        raise CheckpointError(f"optimizer state belongs to another model ({error}); load this one's") from error


def savable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as safetensors takes them."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
