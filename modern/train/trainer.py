"""The training loop of both stages: order of work in a step, logging, checkpoints, validation, exact resume.

A step: losses, picture and checkpoint of the state before the step, update, log, count (coarse spec 7). What a stage
brings is a `Step`, which computes losses, and an `Update`, which owns the optimizers and changes weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.optim import Optimizer

from modern.clip import Sample
from modern.data.loaders import Loaders
from modern.model import evaluating
from modern.train.interrupt import StopRequest, stop_on_interrupt
from modern.train.logging import RunLog
from modern.train.pictures import write_picture
from modern.train.run_folder import RunFolder
from modern.train.schedule import Schedule
from modern.train.seeding import random_states, restore_random_states
from modern.train.state import (
    Standing,
    frozen_digest,
    latest_checkpoint,
    load_checkpoint,
    moving_statistics,
    prune_checkpoints,
    save_checkpoint,
)
from modern.train.step import update

TOTAL = "all_loss"


class Losses(Protocol):
    """What a step yields: at least its losses, `all_loss` among them."""

    @property
    def losses(self) -> Mapping[str, Tensor]:
        """One scalar per term."""


class Step(Protocol):
    """Computes the losses of a batch of samples, in whatever mode its model is, and with or without gradient."""

    @property
    def model(self) -> nn.Module:
        """What holds the trained modules, and all others whose state a step changes."""

    def losses(self, samples: Sequence[Any], /) -> Losses:
        """Losses of the batch."""


class Update(Protocol):
    """Changes weights."""

    @property
    def optimizers(self) -> Mapping[str, Optimizer]:
        """Every optimizer, by the name of its file in a checkpoint."""

    def __call__(self, output: Any, /) -> Mapping[str, Tensor]:
        """Backpropagate what the step yielded and update; returns what is known only now, to be logged too."""


class TotalUpdate:
    """One optimizer, one update by the total loss."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizers = {"optimizer": optimizer}

    def __call__(self, output: Losses) -> Mapping[str, Tensor]:
        """Clear gradients, backpropagate the total, update."""
        update(self.optimizers["optimizer"], output.losses[TOTAL])
        return {}


Draw = Callable[[Any, Any], NDArray[np.uint8]]  # a sample and what the step yielded for its batch -> RGB picture


class Trainer:
    """Trains a step on samples.

    Args:
        step: what to train.
        update: what changes the weights; an optimizer alone stands for an update by the total loss.
        loaders: training batches, their sampler, validation batches.
        schedule: how long, and what is due when.
        run: the folder to write to.
        log: where to report.
        config: stored in every checkpoint.
        device: samples are moved there.
        frozen: networks outside `step.model` that its losses read; continuing needs the same weights.
        draw: makes the picture of a step from its first sample; None draws none.
        console: terminal for the progress bar, which is shown only on a terminal.

    Attributes:
        done: updates done.
    """

    def __init__(
        self,
        step: Step,
        update: Optimizer | Update,
        loaders: Loaders[Any],
        *,
        schedule: Schedule,
        run: RunFolder,
        log: RunLog,
        config: Mapping[str, Any],
        device: torch.device | str = "cpu",
        frozen: Iterable[nn.Module] = (),
        draw: Draw | None = None,
        console: Console | None = None,
    ) -> None:
        self._step, self._loaders = step, loaders
        self._update = TotalUpdate(update) if isinstance(update, Optimizer) else update
        self._schedule, self._run, self._log = schedule, run, log
        self._config, self._device, self._draw = dict(config), device, draw
        self._console = console or Console(stderr=True)
        self._frozen_digest = frozen_digest(step.model, *frozen)
        self.done = 0

    def resume(self) -> bool:
        """Continue from the run's newest checkpoint, if any: weights, optimizers, generators, position in the data.

        Returns:
            Whether there was one.

        Raises:
            CheckpointError: if there is one but it cannot be used.
        """
        checkpoint = latest_checkpoint(self._run.checkpoints)
        if checkpoint is None:
            return False
        standing = load_checkpoint(checkpoint, self._step.model, self._update.optimizers, self._frozen_digest)
        restore_random_states(standing.random)
        self.done = standing.step
        prune_checkpoints(self._run.checkpoints, lambda step: step > standing.step)
        self._log.say(f"resumed from {checkpoint} at {self._schedule.where(self.done)}")
        return True

    def fit(self) -> bool:
        """Train to the end of the schedule.

        Returns:
            False if Ctrl-C ended it earlier; either way the last state is saved.

        Raises:
            FloatingPointError: if a loss is NaN or infinite, naming terms and images; nothing more is saved.
        """
        with stop_on_interrupt() as stop, self._progress() as progress:
            bar = progress.add_task("training", total=self._schedule.total, completed=self.done)
            while self.done < self._schedule.total and not stop.made:
                self._epoch(stop, progress, bar)
        if self.done:
            self._save(random_states())
        self._log.say(f"{'interrupted' if stop.made else 'finished'} after {self.done} steps")
        return self.done >= self._schedule.total

    def _epoch(self, stop: StopRequest, progress: Progress, bar: TaskID) -> None:
        """The rest of the current epoch, or of the run."""
        self._loaders.sampler.seek(self.done)
        for batch in self._loaders.train:
            self._iterate(batch)
            progress.advance(bar)
            if stop.made or self.done == self._schedule.total:
                break
        if self._loaders.validation and self._schedule.ends_epoch(self.done - 1):
            self.validate()

    def _iterate(self, batch: tuple[Sample, ...]) -> None:
        step, schedule, model = self.done, self._schedule, self._step.model
        before = (random_states(), moving_statistics(model)) if schedule.saves(step) else None
        samples = [sample.to(self._device) for sample in batch]
        output = self._step.losses(samples)
        self._check_finite(output.losses, batch)
        if self._draw and schedule.draws(step):
            write_picture(self._run.pictures / f"{step:06}.jpg", self._draw(samples[0], output))
        if before:
            self._save(*before)
        figures = {**output.losses, **self._update(output)}
        self._check_finite(figures, batch)
        if schedule.logs(step):
            self._log.losses("train", step, schedule.where(step), _floats(figures))
        self.done += 1

    def validate(self) -> dict[str, float]:
        """Mean losses over the validation clips, without dropout and without drawing a random number.

        Raises:
            ValueError: if the run has no validation clips.
        """
        if self._loaders.validation is None:
            raise ValueError("no validation clips; set validation_fraction so that at least one is held back")
        with torch.no_grad(), evaluating(self._step.model):
            each = [
                _floats(self._step.losses([sample.to(self._device)]).losses)
                for batch in self._loaders.validation
                for sample in batch
            ]
        means = {name: sum(losses[name] for losses in each) / len(each) for name in each[0]}
        self._log.losses("val", self.done, f"{len(each)} clips", means)
        return means

    def _save(self, random: dict[str, Any], statistics: Mapping[str, Tensor] | None = None) -> None:
        epoch, position = divmod(self.done, self._schedule.steps_per_epoch)
        standing = Standing(
            step=self.done,
            epoch=epoch,
            position=position,
            random=random,
            frozen_digest=self._frozen_digest,
            config=self._config,
        )
        save_checkpoint(self._run.checkpoints, self._step.model, self._update.optimizers, standing, statistics)
        prune_checkpoints(self._run.checkpoints, lambda step: not self._schedule.keeps(step))

    def _check_finite(self, figures: Mapping[str, Tensor], batch: tuple[Sample, ...]) -> None:
        if bad := [name for name, value in figures.items() if not torch.isfinite(value)]:
            images = ", ".join(sample.names[0] for sample in batch)
            raise FloatingPointError(
                f"step {self.done}: {', '.join(bad)} not finite on the clip(s) from {images}; "
                "inspect those files, or resume from the last checkpoint with a lower learning rate"
            )

    def _progress(self) -> Progress:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        return Progress(*columns, console=self._console, disable=not self._console.is_terminal)


def _floats(losses: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: value.item() for name, value in losses.items()}
