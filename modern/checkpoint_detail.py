"""The detail fork's `model.tar` (detail spec 6) and the networks and optimizer states here, both ways.

What that format cannot hold: its key `D` is overwritten by the discriminator's optimizer state, so the weights of the
discriminator are in no file of legacy's; the second action-unit network ACG, whose batch statistics move in training,
is not in it either. An export therefore writes a second file beside the first, which an import finds again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from modern.checkpoint import CheckpointError, legacy_state, load_legacy_state, read_torch
from modern.checkpoint_adam import OPTIMIZED, read_adam, write_adam
from modern.train.files import write_file
from modern.train.optimizer_state import ParameterStates, savable
from modern.weight_table import TABLES

# Legacy name of each network -> its name in `DetailModel`, in the order of legacy's file.
PARTS = {
    "E_flame": "encoder",
    "E_detail": "detail_encoder",
    "D_detail": "generator",
    "D": "discriminator",
    "AUNet": "action_units",
}
CLASSIFIER = "ACG"
_ORDER = ("E_flame", "E_detail", "D_detail", "emoca", "D", "AUNet", "G", "global_step", "batch_size")
_REQUIRED = ("E_flame", "E_detail", "D_detail", "AUNet", "global_step")
_METADATA = "modern"


@dataclass(kw_only=True)
class DetailContent:
    """What a file held beside weights.

    Attributes:
        updates: updates done before it was written.
        optimizers: legacy key -> states, by index of parameter here; without the key if the file has none.
        settings: legacy key -> Adam's settings as the file has them.
        emoca: the state dict of EMOCA, as it is.
        classifier: legacy state of ACG, from the second file only.
        notes: what is lost, dropped, kept or begins anew, one sentence each.
    """

    updates: int
    optimizers: dict[str, ParameterStates] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    emoca: dict[str, Tensor] = field(default_factory=dict)
    classifier: dict[str, Tensor] | None = None
    notes: list[str] = field(default_factory=list)


def beside(tar: Path) -> Path:
    """The second file of an export."""
    return tar.with_name(f"{tar.stem}.beside.safetensors")


def read_detail_tar(
    tar: Path, networks: Mapping[str, nn.Module], *, fresh_discriminator: bool = False
) -> DetailContent:
    """Fill networks from a `model.tar` of the detail fork without executing its pickle.

    Args:
        tar: the file; what `write_detail_tar` put beside it is read too.
        networks: by legacy name, all of `PARTS`; every key of the file is consumed, every parameter filled.
        fresh_discriminator: accept a file without discriminator weights; `networks["D"]` then keeps its values.

    Raises:
        CheckpointError: if a file is missing, damaged, holds anything but plain tensors and values or does not fit, or
            if there are no discriminator weights and that was not accepted.
    """
    content = read_torch(tar)
    _check_keys(tar, content)
    found = DetailContent(updates=int(content["global_step"]) + 1)
    second = _read_beside(tar)
    for name in ("E_flame", "E_detail", "D_detail", "AUNet"):
        load_legacy_state(networks[name], name, content[name], str(tar))
    _fill_discriminator(tar, content, second, networks["D"], found, fresh_discriminator)
    for key in OPTIMIZED:
        if isinstance(content.get(key), Mapping) and "param_groups" in content[key]:
            found.optimizers[key], found.settings[key], notes = read_adam(key, content[key], networks, tar)
            found.notes += notes
        else:
            found.notes.append(f"{key}: no optimizer state in the file; Adam begins anew")
    found.emoca = dict(content.get("emoca", {}))
    if found.emoca:
        found.notes.append(f"emoca: {len(found.emoca)} tensors of EMOCA, kept for export but not used")
    _note_classifier(second, found)
    return found


def _check_keys(tar: Path, content: Any) -> None:
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{tar}: holds {type(content).__name__}, expected a model.tar of the detail fork")
    if missing := [name for name in _REQUIRED if name not in content]:
        hint = "; this is a file of the coarse fork, choose --pipeline coarse" if "BiViT" in content else ""
        raise CheckpointError(f"{tar}: lacks {', '.join(missing)}, expected a model.tar of the detail fork{hint}")
    if unknown := [str(name) for name in content if name not in _ORDER]:
        raise CheckpointError(f"{tar}: does not know what to do with {', '.join(unknown)}; is this another fork's?")
    for name in ("E_flame", "E_detail", "D_detail", "AUNet", "emoca"):
        state = content.get(name, {})
        if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
            raise CheckpointError(f"{tar}: {name} is not a state dict of tensors")
    if type(content["global_step"]) is not int or content["global_step"] < 0:
        raise CheckpointError(f"{tar}: global_step is {content['global_step']!r}, expected a count")


def _fill_discriminator(
    tar: Path,
    content: Mapping[str, Any],
    second: Mapping[str, Tensor] | None,
    discriminator: nn.Module,
    found: DetailContent,
    fresh: bool,
) -> None:
    weights, source = content.get("D", {}), tar
    if second is not None:
        weights, source = _of_network(second, "D"), beside(tar)
    if weights and "param_groups" not in weights:
        load_legacy_state(discriminator, "D", weights, str(source))
        dropped = [key for key in weights if TABLES["D"].modern(key) is None]
        found.notes.append(f"D: discriminator weights from {source.name}")
        found.notes += [f"D: {', '.join(dropped)} dropped, {TABLES['D'].dropped['l1.']}"] if dropped else []
    elif fresh:
        found.notes.append(
            "D: THE DISCRIMINATOR IS FRESHLY INITIALISED: the file holds none of its weights, because legacy puts "
            "its optimizer's state under that key; that state belongs to the lost weights"
        )
    else:
        raise CheckpointError(
            f"{tar}: holds no discriminator weights (its 'D' is the state of an optimizer, a defect of legacy's); "
            "pass --fresh-discriminator to begin with an untrained one"
        )


def _note_classifier(second: Mapping[str, Tensor] | None, found: DetailContent) -> None:
    if second is None:
        found.notes.append("ACG: not in the file; its batch statistics begin again with those of model.au_weights")
        return
    found.classifier = _of_network(second, CLASSIFIER)
    found.notes.append("ACG: weights and batch statistics from the file beside")


def write_detail_tar(
    tar: Path,
    networks: Mapping[str, nn.Module],
    content: DetailContent,
    *,
    batch_size: int,
    config: Mapping[str, Any],
) -> list[str]:
    """Write a file that legacy reads, and beside it what that format cannot hold.

    Args:
        tar: to be written; `beside(tar)` too.
        networks: by legacy name, all of `PARTS`.
        content: the rest; settings of an optimizer without state are filled in too.
        batch_size: images of an update, informative only.
        config: stored beside.

    Returns:
        What legacy will not get from the file, one sentence each.
    """
    file: dict[str, Any] = {name: legacy_state(networks[name], name) for name in PARTS}
    file |= {"emoca": content.emoca, "global_step": max(content.updates - 1, 0), "batch_size": batch_size}
    for key in OPTIMIZED:
        file[key] = write_adam(key, content.optimizers.get(key, {}), content.settings.get(key, {}), networks)
    states = {"D": legacy_state(networks["D"], "D"), CLASSIFIER: content.classifier or {}}
    tensors = {f"{name}/{key}": value for name, state in states.items() for key, value in state.items()}

    def write(part: Path) -> None:
        """The second file comes first, so that a crash cannot leave the other alone and looking complete."""
        torch.save({key: _on_cpu(file[key]) for key in _ORDER}, part)
        described = {"sha256": _sha256(part), "updates": content.updates, "config": config}
        metadata = {_METADATA: json.dumps(described, sort_keys=True)}
        write_file(beside(tar), lambda second: save_file(savable(tensors), second, metadata=metadata))

    write_file(tar, write)
    return [
        f"D: legacy keeps no discriminator weights; they are in {beside(tar).name}, which legacy does not read",
        "G, D: optimizer states are in the file, but legacy fails to restore them when it resumes",
        *([] if content.emoca else ["emoca: empty; legacy keeps the EMOCA model that it loads itself"]),
        *([] if content.classifier else ["ACG: not in the file beside either; both forks read it from its own file"]),
    ]


def _read_beside(tar: Path) -> dict[str, Tensor] | None:
    """The tensors beside, if they belong to this file."""
    path = beside(tar)
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            described = json.loads((file.metadata() or {})[_METADATA])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); restore it, or move it away to do without") from error
    if described.get("sha256") != _sha256(tar):
        raise CheckpointError(f"{path}: belongs to another {tar.name}; restore the pair, or move it away")
    return tensors


def _of_network(tensors: Mapping[str, Tensor], network: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{network}/"): value for key, value in tensors.items() if key.startswith(f"{network}/")}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, Mapping):
        return {key: _on_cpu(item) for key, item in value.items()}
    return value
