"""Weights in and out: legacy checkpoints through the weight table, and this package's own folders.

Files from outside are data: they are read without executing anything in them.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from modern.config import CoarseConfig, from_dict, to_dict
from modern.train.files import write_folder
from modern.weight_table import TABLES

_WEIGHTS, _CONFIG = "model.safetensors", "config.json"
# Legacy name of each network inside `CoarseModel`.
_PARTS = {"E_flame": "encoder", "BiViT": "sequence", "AUNet": "action_units"}


class CheckpointError(ValueError):
    """A file that cannot be used; the message names it, the fault and the remedy."""


def load_legacy_state(module: nn.Module, network: str, state: Mapping[str, Tensor], source: str = "state dict") -> None:
    """Fill `module` from the legacy state dict of `network`; every key is consumed and every parameter filled.

    Args:
        module: `FlameEncoder`, `BiViT` and so on.
        network: legacy name, a key of `modern.weight_table.TABLES`.
        state: legacy key -> tensor; not kept, values are copied.
        source: where it comes from, for messages.

    Raises:
        CheckpointError: on unknown or missing keys or wrong shapes, naming them.
    """
    table, wanted = TABLES[network], module.state_dict()
    try:
        given = table.to_modern(state)
    except KeyError as error:
        raise CheckpointError(f"{source}: {network} has no entry {error.args[0]!r}; is this another network?") from None
    missing = sorted(table.legacy(key) for key in wanted.keys() - given.keys())
    unknown = sorted(table.legacy(key) for key in given.keys() - wanted.keys())
    if missing or unknown:
        raise CheckpointError(f"{source}: {network} lacks {_some(missing)}; not known: {_some(unknown)}")
    wrong = [table.legacy(key) for key, tensor in given.items() if tensor.shape != wanted[key].shape]
    if wrong:
        raise CheckpointError(f"{source}: {network} has other shapes at {_some(wrong)}")
    module.load_state_dict(given)


def legacy_state(module: nn.Module, network: str) -> dict[str, Tensor]:
    """The weights of `module` under legacy keys; what the table drops is not restored."""
    return TABLES[network].to_legacy(module.state_dict())


def load_legacy_weights(model: nn.Module, weights: Mapping[str, Mapping[str, Tensor]], source: str) -> None:
    """Fill those networks of a `CoarseModel` that `weights` holds (legacy network name -> state dict)."""
    for network, part in _PARTS.items():
        if network in weights:
            load_legacy_state(getattr(model, part), network, weights[network], source)


def read_model_tar(path: Path | str) -> dict[str, Any]:
    """Read a legacy `model.tar` (coarse spec 1) without executing its pickle.

    Returns:
        `E_flame` and `BiViT` (state dicts), `opt`, `global_step`, `batch_size`; what the file holds beyond that too.

    Raises:
        CheckpointError: if it is missing, damaged, holds anything but tensors and plain values, or has no network.
    """
    content = read_torch(Path(path))
    if not isinstance(content, dict) or not isinstance(content.get("E_flame"), Mapping):
        raise CheckpointError(f"{path}: holds no network 'E_flame'; expected a model.tar of the legacy trainer")
    return content


def load_model_tar(model: nn.Module, path: Path | str) -> int:
    """Fill a `CoarseModel` from a legacy `model.tar`; one without BiViT fills the encoder only.

    Returns:
        Updates done before it was written.

    Raises:
        CheckpointError: as `read_model_tar` and `load_legacy_state`.
    """
    content = read_model_tar(path)
    load_legacy_weights(model, {name: content[name] for name in ("E_flame", "BiViT") if name in content}, str(path))
    return int(content.get("global_step", 0))


def read_state_dict(path: Path | str) -> dict[str, Tensor]:
    """Weights of a frozen network: a state dict, alone or under the key `state_dict`, prefix `module.` removed.

    Raises:
        CheckpointError: if it is missing, damaged or holds anything but tensors and plain values.
    """
    content = read_torch(Path(path))
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise CheckpointError(f"{path}: holds no state dict; expected names with tensors")
    return {key.removeprefix("module."): tensor for key, tensor in state.items()}


def save_model(
    folder: Path, model: nn.Module, config: CoarseConfig, more: Callable[[Path], object] = lambda part: None
) -> None:
    """Write all weights and the configuration; `folder` appears complete or not at all.

    Args:
        folder: to be written.
        model: its weights.
        config: its settings.
        more: writes further files into the folder it is given.
    """

    def write(part: Path) -> None:
        state = {key: tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()}
        save_file(state, part / _WEIGHTS)
        (part / _CONFIG).write_text(json.dumps(to_dict(config), indent=1), encoding="utf-8")
        more(part)

    write_folder(folder, write)


def read_config(folder: Path) -> CoarseConfig:
    """The configuration of a folder written by `save_model`.

    Raises:
        CheckpointError: if it is missing or damaged.
    """
    try:
        return from_dict(json.loads((folder / _CONFIG).read_text(encoding="utf-8")), str(folder / _CONFIG))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: no usable configuration ({error})") from error


def load_model(folder: Path, model: nn.Module) -> None:
    """Fill `model` from a folder written by `save_model`.

    Raises:
        CheckpointError: if the weights are missing, damaged or those of another model.
    """
    try:
        model.load_state_dict(load_file(folder / _WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{folder / _WEIGHTS}: cannot be loaded ({error})") from error


def read_torch(path: Path) -> Any:
    """What `torch.save` wrote, without executing its pickle.

    Raises:
        CheckpointError: if it is missing, damaged or holds anything but tensors and plain values.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; correct the path in the configuration") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(
            f"{path}: refused; not a file of plain tensors and values, or damaged ({type(error).__name__}: {reason})"
        ) from error


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") if names else "nothing"
