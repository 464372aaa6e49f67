"""Checkpoints: everything a run needs to continue as if it had not been interrupted.

A checkpoint of step g holds the state before step g: nothing of its forward pass, nothing of its update, and the random
generators as they were when it began. It is a folder of `model.safetensors` (what changes in training), one file for
each optimizer by its name, and `state.json`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from modern.checkpoint import CheckpointError
from modern.train.files import write_folder, write_text
from modern.train.optimizer_state import fill_optimizer, read_optimizer, savable, write_optimizer

LATEST = "latest"


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a run stands, beside its tensors.

    Attributes:
        step: updates done.
        epoch: epoch of the next step.
        position: batches of that epoch already used.
        random: states of the global generators, as `random_states` takes them.
        frozen_digest: SHA-256 of what is not trained; continuing needs the same.
        config: what the run was started with.
    """

    step: int
    epoch: int
    position: int
    random: dict[str, Any]
    frozen_digest: str
    config: dict[str, Any]


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers that training changes, by their name in `model`.

    These are those of every submodule that itself owns a trainable parameter, and of every batch normalisation in
    training mode, whose statistics move even if its parameters are frozen.
    """
    state = model.state_dict()
    owners = {name.rpartition(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    owners |= set(_moving_norms(model))
    return {name: tensor for name, tensor in state.items() if name.rpartition(".")[0] in owners}


def moving_statistics(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the buffers that a forward pass alone changes, by their name in `model`."""
    return {
        f"{name}.{key}".lstrip("."): buffer.detach().clone()
        for name, norm in _moving_norms(model).items()
        for key, buffer in norm.named_buffers()
    }


def _moving_norms(model: nn.Module) -> dict[str, nn.Module]:
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.training and module.track_running_stats
    }


def frozen_digest(model: nn.Module, *others: nn.Module) -> str:
    """SHA-256 over names and bytes of all other parameters and buffers of `model`, and of everything in `others`."""
    trained, sha = trained_state(model), hashlib.sha256()
    frozen = [(name, tensor) for name, tensor in _everything(model) if name not in trained]
    for name, tensor in [*frozen, *(item for other in others for item in _everything(other))]:
        sha.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        sha.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def _everything(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers, also the buffers that a state dict leaves out."""
    yield from model.named_parameters()
    yield from model.named_buffers()


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    optimizers: Mapping[str, Optimizer],
    standing: Standing,
    statistics: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write `folder/{step:08}` and let `folder/latest` name it; a crash at any time leaves the older one usable.

    A checkpoint of that step that is already there is kept: within one run a step has one state.

    Args:
        folder: of all checkpoints.
        model: what is trained.
        optimizers: by name, which is also the name of the file.
        standing: the rest.
        statistics: `moving_statistics` before the forward pass, if there has been one since.

    Returns:
        The checkpoint written.
    """
    checkpoint = folder / f"{standing.step:08}"
    groups = [group for optimizer in optimizers.values() for group in optimizer.state_dict()["param_groups"]]

    def write(part: Path) -> None:
        save_file(savable({**trained_state(model), **(statistics or {})}), part / "model.safetensors")
        for name, optimizer in optimizers.items():
            write_optimizer(part / f"{name}.safetensors", optimizer)
        described = {**asdict(standing), "param_groups": groups}
        (part / "state.json").write_text(json.dumps(described), encoding="utf-8")

    if not checkpoint.exists():
        write_folder(checkpoint, write)
    write_text(folder / LATEST, checkpoint.name)
    return checkpoint


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint of a run, or None before its first.

    Raises:
        CheckpointError: if the one named is gone.
    """
    pointer = folder / LATEST
    if not pointer.exists():
        return None
    checkpoint = folder / pointer.read_text(encoding="utf-8").strip()
    if not checkpoint.is_dir():
        raise CheckpointError(f"{pointer} names {checkpoint}, which does not exist; write another step's name into it")
    return checkpoint


def prune_checkpoints(folder: Path, unwanted: Callable[[int], bool]) -> None:
    """Delete the checkpoints whose step is unwanted, and unfinished ones; the one named by `latest` always stays."""
    latest = latest_checkpoint(folder)
    for checkpoint in folder.iterdir():
        name, finished = checkpoint.name, not checkpoint.name.startswith(".")
        if not finished or (name.isdigit() and checkpoint != latest and unwanted(int(name))):
            shutil.rmtree(checkpoint)


def load_checkpoint(checkpoint: Path, model: nn.Module, optimizers: Mapping[str, Optimizer], digest: str) -> Standing:
    """Restore model and optimizers; the generators are left to the caller, who restores them last.

    Args:
        checkpoint: a folder written by `save_checkpoint`.
        model: what changes in training is filled.
        optimizers: their states are replaced.
        digest: `frozen_digest` of the networks now in use.

    Raises:
        CheckpointError: if a file is missing or damaged, or fits another model.
    """
    try:
        described = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
        groups = described.pop("param_groups")
        standing = Standing(**described)
        states = {name: read_optimizer(checkpoint / f"{name}.safetensors") for name in optimizers}
        if standing.frozen_digest != digest:
            raise CheckpointError(f"{checkpoint}: was trained beside other frozen weights; load the same ones")
        load_trained(checkpoint / "model.safetensors", model)
        for name, optimizer in optimizers.items():
            own, groups = groups[: len(optimizer.param_groups)], groups[len(optimizer.param_groups) :]
            fill_optimizer(optimizer, states[name], own)
    except (OSError, json.JSONDecodeError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"{checkpoint}: damaged or incomplete ({error}); resume from another step") from error
    return standing


def load_trained(file: Path, model: nn.Module) -> None:
    """Load what training changes from `model.safetensors`.

    Raises:
        CheckpointError: if it cannot be read or its names or shapes are not exactly the model's.
    """
    _load(file, model, trained_state(model), partial=False)


def load_state(file: Path, model: nn.Module, *, partial: bool = False) -> None:
    """Load all of a model.

    Args:
        file: by names of `model`.
        model: to be filled.
        partial: be content with the trainable parameters; leave out what the model has not.

    Raises:
        CheckpointError: if it cannot be read or does not fit.
    """
    _load(file, model, model.state_dict(), partial=partial)


def _load(file: Path, model: nn.Module, own: Mapping[str, Tensor], *, partial: bool) -> None:
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file}: cannot be read ({error}); resume from another step") from error
    if partial:
        trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        tensors = {name: tensor for name, tensor in tensors.items() if name in own}
        own = {name: tensor for name, tensor in own.items() if name in tensors or name in trainable}
    wanted = {name: tuple(tensor.shape) for name, tensor in own.items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if wanted != found:
        differing = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        raise CheckpointError(f"{file}: {len(differing)} entries differ from the model's, first {differing[:3]}")
    model.load_state_dict(tensors, strict=False)
