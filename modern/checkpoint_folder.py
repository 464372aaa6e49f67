"""The detail stage's own folders: weights, optimizer states and configuration, complete or not there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from modern.checkpoint import CheckpointError
from modern.checkpoint_detail import PARTS, DetailContent
from modern.config_common import read_dict, to_dict
from modern.config_detail import DetailConfig
from modern.train.files import write_folder
from modern.train.optimizer_state import savable, write_states

CONFIG, WEIGHTS, REPORT = "config.json", "model.safetensors", "import.json"
# Legacy key of each optimizer -> name of its file.
OPTIMIZERS = {"G": "optimizer_generator", "D": "optimizer_discriminator"}


def save_detail(folder: Path, networks: Mapping[str, nn.Module], config: DetailConfig, content: DetailContent) -> None:
    """Write what was imported.

    Args:
        folder: must not exist; appears complete or not at all.
        networks: by legacy name, all of `PARTS`.
        config: written too.
        content: optimizer states, EMOCA, notes.
    """
    state = {f"{PARTS[name]}.{key}": value for name in PARTS for key, value in networks[name].state_dict().items()}

    def write(part: Path) -> None:
        save_file(savable(state), part / WEIGHTS)
        (part / CONFIG).write_text(json.dumps(to_dict(config), indent=1), encoding="utf-8")
        for key, states in content.optimizers.items():
            write_states(part / f"{OPTIMIZERS[key]}.safetensors", states)
        if content.emoca:
            save_file(savable(content.emoca), part / "emoca.safetensors")
        if content.classifier:
            save_file(savable(content.classifier), part / "au_classifier.safetensors")
        report = {"updates": content.updates, "settings": content.settings, "notes": content.notes}
        (part / REPORT).write_text(json.dumps(report, indent=1), encoding="utf-8")

    write_folder(folder, write)


def read_detail_config(folder: Path) -> DetailConfig:
    """The configuration of a folder written by `save_detail`.

    Raises:
        CheckpointError: if it is missing or damaged.
    """
    path = folder / CONFIG
    try:
        return read_dict(DetailConfig, json.loads(path.read_text(encoding="utf-8")), str(path))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: no usable configuration ({error})") from error


def read_report(folder: Path) -> dict[str, Any]:
    """What an import had to say about a folder: `updates`, `notes`, for detail `settings`; empty if there is none.

    Raises:
        CheckpointError: if it is damaged.
    """
    file = folder / REPORT
    try:
        report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except ValueError as error:
        raise CheckpointError(f"{file}: cannot be read ({error}); restore it") from error
    return report


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Tensors by name.

    Raises:
        CheckpointError: if the file cannot be read.
    """
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file}: cannot be read ({error}); restore it") from error
