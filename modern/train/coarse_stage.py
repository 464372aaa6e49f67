"""The coarse stage for the trainer: clips of three frames, BiViT trained by one optimizer."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from modern.assets import load_head
from modern.build import build_loss_networks, build_model
from modern.checkpoint_folder import read_report
from modern.clip import Clip
from modern.config import CoarseConfig
from modern.data.loaders import make_loaders
from modern.data.sources import Split
from modern.model import CoarseModel
from modern.train.optimizer_state import fill_optimizer, read_optimizer
from modern.train.pictures import training_picture
from modern.train.stage import Stage
from modern.train.step import CoarseStep, StepOutput, make_optimizer


def coarse_stage(config: CoarseConfig, split: Split, device: torch.device | str) -> Stage:
    """Load data and networks.

    Raises:
        ValueError: if a file or clip cannot be used.
    """
    head = load_head(config.model.head)
    loaders = make_loaders(
        split,
        landmark_indices=head.landmark_indices,
        batch_size=config.data.batch_size,
        workers=config.data.workers,
        seed=config.train.seed,
        size=config.model.image_size,
    )
    model = build_model(config, head).to(device)
    optimizer, notes = make_optimizer(model, config), list[str]()
    if (pretrained := config.model.pretrained) is not None and pretrained.is_dir():
        notes = [f"starts from {pretrained}", *read_report(pretrained).get("notes", [])]
        if (file := pretrained / "optimizer.safetensors").exists():
            fill_optimizer(optimizer, read_optimizer(file))
    networks = {name: network.to(device) for name, network in build_loss_networks(config).items()}
    return Stage(
        step=CoarseStep(model, config, *map(networks.get, ("expression", "au_classifier", "identity"))),
        update=optimizer,
        loaders=loaders,
        frozen=tuple(networks.values()),
        draw=partial(_draw, model),
        notes=tuple(notes),
    )


def _draw(model: CoarseModel, clip: Clip, output: StepOutput) -> NDArray[np.uint8]:
    return training_picture(model, clip, output.encoding, output.decoding)
