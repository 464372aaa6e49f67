"""The training loop: order of work in a step, logging, checkpoints, validation, exact resume.

A step runs as in the original: losses, then log, picture and checkpoint of the state before the update, then the
update, then the count (coarse spec 7).
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

from modern.clip import Clip
from modern.data.loaders import Batch, Loaders
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
    """Computes the losses of a batch of clips."""

    @property
    def model(self) -> nn.Module:
        """What holds the trained modules."""

    def losses(self, clips: Sequence[Clip], /) -> Losses:
        """Losses of the batch, with gradient."""


Draw = Callable[[Clip, Any], NDArray[np.uint8]]  # a clip and what the step yielded for its batch -> RGB picture


class Trainer:
    """Trains a step on clips.

    Args:
        step: what to train.
        optimizer: of the trained parameters.
        loaders: training batches, their sampler, validation batches.
        schedule: how long, and what is due when.
        run: the folder to write to.
        log: where to report.
        config: stored in every checkpoint.
        device: clips are moved there.
        frozen: networks outside `step.model` that its losses read; continuing needs the same weights.
        draw: makes the picture of a step from its first clip; None draws none.
        console: terminal for the progress bar, which is shown only on a terminal.

    Attributes:
        done: updates done.
    """

    def __init__(
        self,
        step: Step,
        optimizer: Optimizer,
        loaders: Loaders,
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
        self._step, self._optimizer, self._loaders = step, optimizer, loaders
        self._schedule, self._run, self._log = schedule, run, log
        self._config, self._device, self._draw = dict(config), device, draw
        self._console = console or Console(stderr=True)
        self._frozen_digest = frozen_digest(step.model, *frozen)
        self.done = 0

    def resume(self) -> bool:
        """Continue from the run's newest checkpoint, if any: weights, optimizer, generators, position in the data.

        Returns:
            Whether there was one.

        Raises:
            CheckpointError: if there is one but it cannot be used.
        """
        checkpoint = latest_checkpoint(self._run.checkpoints)
        if checkpoint is None:
            return False
        standing = load_checkpoint(checkpoint, self._step.model, self._optimizer, self._frozen_digest)
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
            FloatingPointError: if a loss is NaN or infinite, naming terms and clips; nothing is updated or saved.
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

    def _iterate(self, batch: Batch) -> None:
        step, schedule = self.done, self._schedule
        random = random_states() if schedule.saves(step) else {}  # as they are when the step begins
        clips = [clip.to(self._device) for clip in batch]
        output = self._step.losses(clips)
        losses = output.losses
        self._check_finite(losses, batch)
        if schedule.logs(step):
            self._log.losses("train", step, schedule.where(step), _floats(losses))
        if self._draw and schedule.draws(step):
            write_picture(self._run.pictures / f"{step:06}.jpg", self._draw(clips[0], output))
        if random:
            self._save(random)
        update(self._optimizer, losses[TOTAL])
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
                _floats(self._step.losses([clip.to(self._device)]).losses)
                for batch in self._loaders.validation
                for clip in batch
            ]
        means = {name: sum(losses[name] for losses in each) / len(each) for name in each[0]}
        self._log.losses("val", self.done, f"{len(each)} clips", means)
        return means

    def _save(self, random: dict[str, Any]) -> None:
        epoch, position = divmod(self.done, self._schedule.steps_per_epoch)
        standing = Standing(
            step=self.done,
            epoch=epoch,
            position=position,
            random=random,
            frozen_digest=self._frozen_digest,
            config=self._config,
        )
        save_checkpoint(self._run.checkpoints, self._step.model, self._optimizer, standing)
        prune_checkpoints(self._run.checkpoints, lambda step: not self._schedule.keeps(step))

    def _check_finite(self, losses: Mapping[str, Tensor], batch: Batch) -> None:
        if not torch.isfinite(losses[TOTAL]):
            bad = [name for name, value in losses.items() if not torch.isfinite(value)]
            frames = ", ".join(clip.names[0] for clip in batch)
            raise FloatingPointError(
                f"step {self.done}: {', '.join(bad)} not finite on the clip(s) from {frames}; "
                "inspect those files, or resume from the last checkpoint with a lower learning rate"
            )

    def _progress(self) -> Progress:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        return Progress(*columns, console=self._console, disable=not self._console.is_terminal)


def _floats(losses: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: value.item() for name, value in losses.items()}
