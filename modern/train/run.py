"""A whole training run from its configuration."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from modern.assets import load_head
from modern.build import build_loss_networks, build_model
from modern.clip import Clip
from modern.config import CoarseConfig, to_dict
from modern.data.loaders import make_loaders
from modern.data.sources import split_clips
from modern.model import CoarseModel
from modern.train.logging import RunLog
from modern.train.pictures import training_picture
from modern.train.run_folder import open_run
from modern.train.schedule import Schedule
from modern.train.seeding import repeat_exactly, seed_everything
from modern.train.step import CoarseStep, StepOutput, make_optimizer
from modern.train.trainer import Trainer


def train(config: CoarseConfig, device: torch.device | str = "cpu", console: Console | None = None) -> bool:
    """Train, or continue the run that the output folder holds if `config.train.resume` is on.

    Returns:
        False if Ctrl-C ended it before its time.

    Raises:
        ValueError: if a setting, a file, a clip or the output folder cannot be used; nothing is overwritten.
        FloatingPointError: if a loss is not finite.
    """
    settings, console = to_dict(config), console or Console(stderr=True)
    split = split_clips(config.data.sources, config.data.validation_fraction, config.train.seed)
    seed_everything(config.train.seed)
    repeat_exactly()
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
    networks = {name: network.to(device) for name, network in build_loss_networks(config).items()}
    step = CoarseStep(model, config, *map(networks.get, ("expression", "au_classifier", "identity")))
    run = open_run(config.train.output_dir, settings, split.record(), resume=config.train.resume)
    log = RunLog(run.logs, name=run.path.name, tensorboard=config.train.write_summary, console=console)
    trainer = Trainer(
        step,
        make_optimizer(model, config),
        loaders,
        schedule=make_schedule(config, loaders.sampler.batches_per_epoch),
        run=run,
        log=log,
        config=settings,
        device=device,
        frozen=networks.values(),
        draw=partial(_draw, model),
        console=console,
    )
    try:
        log.say(f"{len(split.train)} training items, {len(split.validation)} validation clips")
        log.say(f"torch {torch.__version__} on {device}")
        trainer.resume()
        return trainer.fit()
    finally:
        log.close()


def make_schedule(config: CoarseConfig, steps_per_epoch: int) -> Schedule:
    """The schedule of a run."""
    names = ("max_epochs", "max_steps", "log_steps", "vis_steps", "checkpoint_steps")
    intervals: dict[str, Any] = {name: getattr(config.train, name) for name in names}
    return Schedule(steps_per_epoch=steps_per_epoch, **intervals)


def _draw(model: CoarseModel, clip: Clip, output: StepOutput) -> NDArray[np.uint8]:
    return training_picture(model, clip, output.encoding, output.decoding)
