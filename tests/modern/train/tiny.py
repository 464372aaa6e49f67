"""A run small enough for a test: a frozen net, a trained one with dropout, real clips, the real trainer.

As a program: `python -m tests.modern.train.tiny CLIPS OUT STEPS WORKERS` trains to step STEPS, resuming if it can.
"""

import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

from modern.clip import Clip
from modern.data.loaders import make_loaders
from modern.data.sources import Source, split_clips
from modern.train.logging import RunLog
from modern.train.run_folder import open_run
from modern.train.schedule import Schedule
from modern.train.seeding import seed_everything
from modern.train.trainer import Trainer
from tests.modern.data.clip_files import LANDMARK_INDICES


class TinyModel(nn.Module):
    """Mean colours of three frames -> frozen layers -> trained layers with dropout -> x, y, confidence."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Sequential(nn.Linear(9, 8), nn.BatchNorm1d(8)).requires_grad_(False)
        self.trained = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.3), nn.LayerNorm(16), nn.Linear(16, 3))
        self.eval()
        self.trained.train()


@dataclass(frozen=True)
class TinyOutput:
    losses: dict[str, Tensor]


class TinyStep:
    """Implements the interface of the coarse step; `poison` makes its loss NaN at that call."""

    def __init__(self, poison: int | None = None) -> None:
        self.model = TinyModel()
        self._calls, self._poison = 0, poison

    def losses(self, clips: Sequence[Clip]) -> TinyOutput:
        colours_B9 = torch.stack([clip.image_T3HW.mean(dim=(2, 3)).flatten() for clip in clips])
        out_B3 = self.model.trained(self.model.frozen(colours_B9))
        landmark = (out_B3 - torch.stack([clip.landmark_T683.mean(dim=(0, 1)) for clip in clips])).abs().mean()
        size = (out_B3**2).mean() * (float("nan") if self._calls == self._poison else 1.0)
        self._calls += 1
        return TinyOutput({"landmark": landmark, "size": size, "all_loss": landmark + size})


def make_trainer(
    clips: Path,
    out: Path,
    *,
    max_steps: int,
    workers: int = 0,
    resume: bool = True,
    step_type: Callable[[], TinyStep] = TinyStep,
    validation: float = 0.25,
    **intervals: int,
) -> Trainer:
    """A trainer on the clips below a folder, seeded like a real run; resumed if `out` holds a run."""
    seed_everything(0)
    step = step_type()
    optimizer = torch.optim.Adam(step.model.trained.parameters(), lr=1e-2)
    split = split_clips([Source(root=clips)], validation, seed=0)
    loaders = make_loaders(split, landmark_indices=LANDMARK_INDICES, workers=workers, seed=0)
    steps = {"max_epochs": 50, "log_steps": 1, "vis_steps": 1, "checkpoint_steps": 2} | intervals
    schedule = Schedule(steps_per_epoch=loaders.sampler.batches_per_epoch, max_steps=max_steps, **steps)
    config = {"train": {"lr": 1e-2, "max_steps": max_steps}, "data": {"workers": workers}}
    run = open_run(out, config, split.record(), resume=resume)
    quiet = Console(file=io.StringIO())
    log = RunLog(run.logs, name="tiny", console=quiet)
    trainer = Trainer(step, optimizer, loaders, schedule=schedule, run=run, log=log, config=config, console=quiet)
    trainer.resume()
    return trainer


if __name__ == "__main__":
    torch.set_num_threads(1)
    make_trainer(Path(sys.argv[1]), Path(sys.argv[2]), max_steps=int(sys.argv[3]), workers=int(sys.argv[4])).fit()
