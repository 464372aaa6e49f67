"""Building the networks of a configuration with the weights of its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import yaml
from torch import Tensor, nn

from modern.action_units import ActionUnitClassifier
from modern.assets import HeadAssets, load_head
from modern.checkpoint import (
    CheckpointError,
    legacy_state,
    load_legacy_state,
    load_model,
    load_model_tar,
    read_config,
    read_state_dict,
)
from modern.config import CoarseConfig, from_dict
from modern.encoders import EmotionNet
from modern.losses.identity import IdentityNet
from modern.model import CoarseModel
from modern.safe_pickle import load_pickle
from modern.train.run_folder import RunFolder
from modern.train.state import latest_checkpoint, load_trained

# The frozen feature network's graph is in no checkpoint file and on no path of training: its initial values stay.
UNTRAINED_GRAPH = ("head.gnn.",)


def build_model(config: CoarseConfig, head: HeadAssets | None = None) -> CoarseModel:
    """The model with its frozen weights, and with those of `config.model.pretrained` if that is set.

    Args:
        config: which files.
        head: the head, if it is loaded already.

    Raises:
        ValueError: if a file cannot be used (`CheckpointError` for weights).
        FileNotFoundError: if a head file is missing.
    """
    files = config.model
    model = CoarseModel(head or load_head(files.head), config)
    load_model_tar(model, files.encoder_weights)
    fill_network(model.action_units, "AUNet", read_state_dict(files.au_weights), files.au_weights, keep=UNTRAINED_GRAPH)
    if files.pretrained is not None:
        if files.pretrained.is_dir():
            load_model(files.pretrained, model)
        else:
            load_model_tar(model, files.pretrained)
    return model


def build_loss_networks(config: CoarseConfig) -> dict[str, nn.Module]:
    """The frozen networks that the active loss terms read, by their argument of `CoarseStep`.

    Raises:
        CheckpointError: if a weight file cannot be used.
    """
    files, loss = config.model, config.loss
    networks: dict[str, nn.Module] = {}
    if loss.table == "sequence" and loss.emotion > 0:
        state = read_state_dict(files.emotion_weights)
        networks["expression"] = fill_network(EmotionNet(), "expression_net", state, files.emotion_weights)
    if loss.needs_au_classifier:
        classifier = ActionUnitClassifier(imagenet="D13" in config.fixes)
        networks["au_classifier"] = fill_network(
            classifier, "AU_net", read_state_dict(files.au_weights), files.au_weights
        )
    if loss.needs_identity:
        state = _identity_state(files.identity_weights)
        networks["identity"] = fill_network(IdentityNet(), "FRNet", state, files.identity_weights)
    return networks


def open_model(folder: Path, change: Callable[[CoarseConfig], CoarseConfig] = lambda config: config) -> CoarseModel:
    """The model of a run (its newest checkpoint) or of a folder written by `modern.checkpoint.save_model`.

    Args:
        folder: either.
        change: applied to the recorded configuration, e.g. to correct paths.

    Raises:
        ValueError: if the folder is neither, or one of its files cannot be used.
    """
    run = RunFolder(folder)
    if not run.config.exists():
        config = change(read_config(folder))
        model = CoarseModel(load_head(config.model.head), config)
        load_model(folder, model)
        return model
    checkpoint = latest_checkpoint(run.checkpoints)
    if checkpoint is None:
        raise CheckpointError(f"{folder}: the run has no checkpoint yet; let it reach one")
    model = build_model(change(from_dict(yaml.safe_load(run.config.read_text(encoding="utf-8")), str(run.config))))
    load_trained(checkpoint / "model.safetensors", model)
    return model


def fill_network(
    module: nn.Module, network: str, state: Mapping[str, Tensor], source: Path, keep: tuple[str, ...] = ()
) -> nn.Module:
    """Load what `module` needs out of a file that may hold more.

    Args:
        module: to be filled.
        network: its legacy name.
        state: legacy key -> tensor.
        source: the file, for messages.
        keep: prefixes of legacy keys that may be missing, as batch counters may; their values then stay.

    Returns:
        `module`.

    Raises:
        CheckpointError: if something else is missing or has another shape.
    """
    own = legacy_state(module, network)
    spared = {key: value for key, value in own.items() if key.startswith(keep) or key.endswith("num_batches_tracked")}
    found = {key: state[key] for key in own if key in state}
    load_legacy_state(module, network, {**spared, **found}, str(source))
    return module


def _identity_state(path: Path) -> dict[str, Tensor]:
    """VGGFace2's file: a pickle of arrays by name, read as data."""
    if not path.exists():
        raise CheckpointError(f"{path}: no such file; correct model.identity_weights")
    return {name: torch.as_tensor(values) for name, values in load_pickle(path).items()}
