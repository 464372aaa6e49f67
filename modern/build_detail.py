"""Building the networks of a detail configuration with the weights of its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from torch import Tensor, nn
from torch.optim import Optimizer

from modern.action_units import ActionUnitClassifier, ActionUnitFeatures
from modern.assets import HeadAssets, load_head
from modern.build import UNTRAINED_GRAPH, fill_network
from modern.checkpoint import CheckpointError, load_legacy_state, read_model_tar, read_state_dict
from modern.checkpoint_detail import CLASSIFIER, PARTS
from modern.checkpoint_folder import read_detail_config, read_report, read_tensors
from modern.config_common import read_dict
from modern.config_detail import DetailConfig
from modern.detail.geometry import HeadGeometry
from modern.detail.model import DetailModel
from modern.detail.networks import DetailEncoder, DisplacementGenerator, PatchDiscriminator
from modern.detail.perceptual import Vgg19Features
from modern.encoders import FlameEncoder
from modern.train.optimizer_state import fill_optimizer, read_optimizer
from modern.train.run_folder import RunFolder
from modern.train.state import latest_checkpoint, load_state

_EXPRESSION = "E_expression."


class ExpressionEncoder(nn.Module):
    """EMOCA's expression encoder: built like `E_flame`, with 50 outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = FlameEncoder(outputs=50).requires_grad_(False)

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """Expression codes [B,50]."""
        codes: Tensor = self.encoder(image_B3HW)[0]
        return codes


@dataclass(frozen=True, kw_only=True, slots=True)
class DetailNetworks:
    """Frozen networks that only losses read; `perceptual` is None without the MRF term."""

    au_classifier: ActionUnitClassifier
    perceptual: Vgg19Features | None


def fresh_networks(config: DetailConfig) -> dict[str, nn.Module]:
    """The five networks of a `model.tar`, by legacy name, as they are before any file is read."""
    return {
        "E_flame": FlameEncoder().requires_grad_(False),
        "E_detail": DetailEncoder(),
        "D_detail": DisplacementGenerator(),
        "D": PatchDiscriminator(),
        "AUNet": ActionUnitFeatures(imagenet="D13" in config.fixes).requires_grad_(False),
    }


def networks_of(model: nn.Module) -> dict[str, nn.Module]:
    """The networks of a `DetailModel`, by legacy name."""
    return {name: getattr(model, part) for name, part in PARTS.items()}


def fill_frozen(networks: Mapping[str, nn.Module], config: DetailConfig) -> None:
    """Load `E_flame` and `AUNet` from the files of the configuration.

    Raises:
        CheckpointError: if a file cannot be used.
    """
    files = config.model
    weights = read_model_tar(files.encoder_weights)["E_flame"]
    load_legacy_state(networks["E_flame"], "E_flame", weights, str(files.encoder_weights))
    fill_network(networks["AUNet"], "AUNet", read_state_dict(files.au_weights), files.au_weights, keep=UNTRAINED_GRAPH)


def build_detail_model(config: DetailConfig, head: HeadAssets | None = None) -> DetailModel:
    """The model with its frozen weights; `config.model.pretrained` is left to `load_pretrained`.

    Args:
        config: which files.
        head: the head, if it is loaded already.

    Raises:
        ValueError: if a file cannot be used (`CheckpointError` for weights).
        FileNotFoundError: if a head file is missing.
    """
    files = config.model
    expression = None if files.expression_weights is None else _expression_encoder(files.expression_weights)
    head = head or load_head(files.head, texture=files.texture)
    model = DetailModel(HeadGeometry(head), config, expression=expression)
    fill_frozen(networks_of(model), config)
    return model


def build_detail_networks(config: DetailConfig) -> DetailNetworks:
    """The frozen networks that the active loss terms read.

    Raises:
        CheckpointError: if a weight file cannot be used.
    """
    files, perceptual = config.model, None
    if config.loss.mrf > 0:
        state = read_state_dict(files.perceptual_weights)
        layers = {key.removeprefix("features."): value for key, value in state.items() if "classifier" not in key}
        perceptual = Vgg19Features()
        fill_network(perceptual, "VGG19", layers, files.perceptual_weights)
    return DetailNetworks(au_classifier=build_classifier(config), perceptual=perceptual)


def build_classifier(config: DetailConfig) -> ActionUnitClassifier:
    """ACG, with the weights of its file.

    Raises:
        CheckpointError: if it cannot be used.
    """
    classifier = ActionUnitClassifier(imagenet="D13" in config.fixes)
    weights = config.model.au_weights
    fill_network(classifier, CLASSIFIER, read_state_dict(weights), weights)
    return classifier


def load_pretrained(
    folder: Path,
    networks: Mapping[str, nn.Module],
    classifier: nn.Module | None = None,
    optimizers: Mapping[str, Optimizer] | None = None,
) -> list[str]:
    """Start from a folder written by `modern.checkpoint_folder.save_detail`.

    Args:
        folder: holds weights, and perhaps optimizer states and the classifier's.
        networks: by legacy name, all of `PARTS`.
        classifier: ACG, filled if the folder has it.
        optimizers: by name of their file, filled where the folder has one.

    Returns:
        What was loaded, and what the import had to say, one sentence each.

    Raises:
        CheckpointError: if a file is missing, damaged or that of another model.
    """
    load_state(folder / "model.safetensors", nn.ModuleDict({PARTS[name]: each for name, each in networks.items()}))
    loaded = ["weights"]
    file = folder / "au_classifier.safetensors"
    if classifier is not None and file.exists():
        load_legacy_state(classifier, CLASSIFIER, read_tensors(file), str(file))
        loaded.append("au_classifier")
    for name, optimizer in (optimizers or {}).items():
        if (file := folder / f"{name}.safetensors").exists():
            fill_optimizer(optimizer, read_optimizer(file))
            loaded.append(name)
    return [f"starts from {', '.join(loaded)} of {folder}", *read_report(folder).get("notes", [])]


def open_detail_model(
    folder: Path, change: Callable[[DetailConfig], DetailConfig] = lambda config: config
) -> DetailModel:
    """The model of a run (its newest checkpoint) or of a folder written by `save_detail`.

    Args:
        folder: either.
        change: applied to the recorded configuration, e.g. to correct paths.

    Raises:
        ValueError: if the folder is neither, or one of its files cannot be used.
    """
    run = RunFolder(folder)
    if not run.config.exists():
        model = build_detail_model(change(read_detail_config(folder)))
        load_pretrained(folder, networks_of(model))
        return model
    content = yaml.safe_load(run.config.read_text(encoding="utf-8"))
    config = change(read_dict(DetailConfig, content, str(run.config)))
    model = build_detail_model(config)
    if config.model.pretrained is not None:
        load_pretrained(config.model.pretrained, networks_of(model))
    fill_from_run(run, nn.ModuleDict({"model": model}))
    return model


def fill_from_run(run: RunFolder, root: nn.Module) -> Path:
    """Fill networks with what a run has learnt.

    Args:
        run: its folder.
        root: holds networks under the names of a checkpoint; further entries of the checkpoint are left out.

    Returns:
        The checkpoint.

    Raises:
        CheckpointError: if the run has no checkpoint, or its file cannot be used.
    """
    checkpoint = latest_checkpoint(run.checkpoints)
    if checkpoint is None:
        raise CheckpointError(f"{run.path}: the run has no checkpoint yet; let it reach one")
    load_state(checkpoint / "model.safetensors", root, partial=True)
    return checkpoint


def _expression_encoder(path: Path) -> ExpressionEncoder:
    """EMOCA's file holds many networks; the keys of this one follow `E_expression.`."""
    state = read_state_dict(path)
    own = {key.partition(_EXPRESSION)[2] or key: value for key, value in state.items()}
    module = ExpressionEncoder()
    fill_network(module.encoder, "E_flame", own, path)
    return module
