"""Adam's states as the detail fork saves them, and as this package does: who counts through which parameters.

The fork's optimizer of the discriminator counts two parameters that are never used and hence have no state here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from modern.checkpoint import CheckpointError
from modern.train.optimizer_state import ParameterStates
from modern.weight_table import TABLES

# Legacy key of each optimizer -> the networks whose parameters it counts through.
OPTIMIZED = {"G": ("E_detail", "D_detail"), "D": ("D",)}
_DEAD = {"D": ("l1.weight", "l1.bias")}  # counted, but without gradient and hence without state


def read_adam(
    key: str, state: Mapping[str, Any], networks: Mapping[str, nn.Module], tar: Path
) -> tuple[ParameterStates, dict[str, Any], list[str]]:
    """Translate a `state_dict` of the fork's.

    Args:
        key: legacy name of the optimizer, `G` or `D`.
        state: its state and its group of parameters.
        networks: by legacy name.
        tar: where it comes from, for messages.

    Returns:
        States by index of parameter here, Adam's settings, and a sentence for each thing to be told.

    Raises:
        CheckpointError: if it does not fit the networks, naming the parameter.
    """
    names, shapes, notes = legacy_parameters(key, networks), _shapes(key, networks), []
    groups, entries = state["param_groups"], state.get("state", {})
    if len(groups) != 1 or list(groups[0].get("params", ())) != list(range(len(names))):
        raise CheckpointError(f"{tar}: optimizer {key} does not count through {len(names)} parameters")
    states: ParameterStates = {}
    kept = [name for name in names if name in shapes]
    for index, values in entries.items():
        name = names[index] if type(index) is int and 0 <= index < len(names) else None
        if name is None:
            raise CheckpointError(f"{tar}: optimizer {key} has state for parameter {index!r} of {len(names)}")
        if name in shapes:
            states[kept.index(name)] = _checked(f"{tar}: optimizer {key}, {name}", values, shapes[name])
        else:
            notes.append(f"{key}: state of the dead parameter {name} dropped")
    notes.append(f"{key}: optimizer state of {len(states)} parameters" + ("" if states else "; Adam begins anew"))
    return states, {name: value for name, value in groups[0].items() if name != "params"}, notes


def write_adam(
    key: str, states: ParameterStates, settings: Mapping[str, Any], networks: Mapping[str, nn.Module]
) -> dict[str, Any]:
    """The inverse of `read_adam`."""
    names, known = legacy_parameters(key, networks), _shapes(key, networks)
    position = [names.index(name) for name in names if name in known]
    translated = {position[index]: values for index, values in sorted(states.items())}
    return {"state": translated, "param_groups": [{**settings, "params": list(range(len(names)))}]}


def legacy_parameters(key: str, networks: Mapping[str, nn.Module]) -> list[str]:
    """Parameters as "network/name" under legacy names, in the order in which legacy's optimizer counts them."""
    return [
        f"{network}/{name}"
        for network in OPTIMIZED[key]
        for name in (*_DEAD.get(network, ()), *map(TABLES[network].legacy, dict(networks[network].named_parameters())))
    ]


def _shapes(key: str, networks: Mapping[str, nn.Module]) -> dict[str, torch.Size]:
    return {
        f"{network}/{TABLES[network].legacy(name)}": parameter.shape
        for network in OPTIMIZED[key]
        for name, parameter in networks[network].named_parameters()
    }


def _checked(where: str, values: Mapping[str, Any], shape: torch.Size) -> dict[str, Tensor]:
    tensors = {name: torch.as_tensor(value) for name, value in values.items()}
    if {"step", "exp_avg", "exp_avg_sq"} != tensors.keys():
        raise CheckpointError(f"{where}: holds {', '.join(tensors) or 'nothing'}, expected Adam's three entries")
    for name, value in tensors.items():
        if value.shape != (torch.Size() if name == "step" else shape):
            raise CheckpointError(f"{where}: {name} has shape {tuple(value.shape)}, expected {tuple(shape)}")
    return tensors


def settings_differing(found: Mapping[str, Mapping[str, Any]], used: Mapping[str, Mapping[str, Any]]) -> Sequence[str]:
    """A sentence for each of Adam's settings that a file has otherwise; both by legacy key and name."""
    return [
        f"{key}: the file was trained with {name} {found[key][name]}; the configuration's {value} is used"
        for key, wanted in used.items()
        for name, value in wanted.items()
        if key in found and found[key].get(name) not in (value, None)
    ]
