"""A whole training run from its configuration."""

from __future__ import annotations

from typing import Any

import torch
from rich.console import Console

from modern.config import CoarseConfig, to_dict
from modern.config_detail import DetailConfig
from modern.data.sources import Split, split_clips
from modern.train.coarse_stage import coarse_stage
from modern.train.detail_stage import detail_stage
from modern.train.logging import RunLog
from modern.train.run_folder import open_run
from modern.train.schedule import Schedule
from modern.train.seeding import repeat_exactly, seed_everything
from modern.train.stage import Stage
from modern.train.trainer import Trainer

AnyConfig = CoarseConfig | DetailConfig


def train(config: AnyConfig, device: torch.device | str = "cpu", console: Console | None = None) -> bool:
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
    stage = _stage(config, split, device)
    run = open_run(config.train.output_dir, settings, split.record(), resume=config.train.resume)
    log = RunLog(run.logs, name=run.path.name, tensorboard=config.train.write_summary, console=console)
    trainer = Trainer(
        stage.step,
        stage.update,
        stage.loaders,
        schedule=make_schedule(config, stage.loaders.sampler.batches_per_epoch),
        run=run,
        log=log,
        config=settings,
        device=device,
        frozen=stage.frozen,
        draw=stage.draw,
        console=console,
    )
    try:
        log.say(f"{len(split.train)} training items, {len(split.validation)} validation clips")
        log.say(f"torch {torch.__version__} on {device}")
        if not trainer.resume():
            for note in stage.notes:
                log.say(note)
        return trainer.fit()
    finally:
        log.close()


def make_schedule(config: AnyConfig, steps_per_epoch: int) -> Schedule:
    """The schedule of a run."""
    names = ("max_epochs", "max_steps", "log_steps", "vis_steps", "checkpoint_steps")
    intervals: dict[str, Any] = {name: getattr(config.train, name) for name in names}
    return Schedule(steps_per_epoch=steps_per_epoch, **intervals)


def _stage(config: AnyConfig, split: Split, device: torch.device | str) -> Stage:
    if isinstance(config, DetailConfig):
        return detail_stage(config, split, device)
    return coarse_stage(config, split, device)
