"""A detail run small enough for a test: stand-in networks, real images, the real adapters and the real trainer.

As a program: `python -m tests.modern.train.tiny_detail IMAGES OUT STEPS WORKERS` trains to STEPS, resuming if it can.
"""

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F

from modern.data.loaders import make_identity_loaders
from modern.data.sources import Source, split_clips
from modern.detail.batch import DetailBatch
from modern.detail.step import DetailOptimizers, DetailStep
from modern.train.detail_stage import AlternatingUpdate, IdentityStep
from modern.train.logging import RunLog
from modern.train.run_folder import open_run
from modern.train.schedule import Schedule
from modern.train.seeding import seed_everything
from modern.train.trainer import Trainer
from tests.modern.data.clip_files import LANDMARK_INDICES


class TinyDetailModel(nn.Module):
    """Frozen action units whose batch statistics move, an encoder and a generator, a discriminator."""

    def __init__(self) -> None:
        super().__init__()
        self.action_units = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).requires_grad_(False)
        self.detail_encoder = nn.Linear(3, 4)
        self.generator = nn.Linear(8, 3)
        self.discriminator = nn.Sequential(nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 1))


@dataclass(frozen=True)
class Out:
    losses: dict[str, Tensor]
    real: Tensor
    fake: Tensor
    condition: Tensor


class TinyDetailStep:
    """Implements what the adapters use of the detail step; `poison` makes a loss of that update NaN."""

    update = DetailStep.update  # the order of the two updates is the real one

    def __init__(self, poison: int | None = None) -> None:
        self.model = TinyDetailModel()
        self.au_classifier = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).requires_grad_(False)
        self._updates, self._poison = 0, poison

    def losses(self, batch: DetailBatch) -> Out:
        real = (batch.image_B3HW * batch.mask_BHW[:, None]).mean(dim=(2, 3)) * 4
        condition = self.model.action_units(real)
        fake = self.model.generator(torch.cat([self.model.detail_encoder(real), condition], dim=1))
        photo = (real - fake).abs().mean()
        units = (self.au_classifier(real) - self.au_classifier(fake)).square().mean()
        losses = {"photo_detail": photo, "au_feature_loss": units, "all_loss": photo + units}
        return Out(losses, real, fake, condition.detach())

    def update_discriminator(self, output: Out, optimizers: DetailOptimizers) -> Out:
        optimizers.discriminator.zero_grad()
        real, fake = self._judge(output.real, output), self._judge(output.fake.detach(), output)
        loss = F.softplus(-real).mean() + F.softplus(fake).mean()
        loss.backward()
        optimizers.discriminator.step()
        return Out({"D_loss": loss.detach()}, real, fake, output.condition)

    def update_generator(self, output: Out, optimizers: DetailOptimizers) -> Out:
        optimizers.generator.zero_grad()
        loss = F.softplus(-self._judge(output.fake, output)).mean() + output.losses["all_loss"]
        loss.backward()
        optimizers.generator.step()
        shown = loss.detach() * (float("nan") if self._updates == self._poison else 1.0)
        self._updates += 1
        return Out({"G_loss": shown}, output.real, output.fake, output.condition)

    def _judge(self, image: Tensor, output: Out) -> Tensor:
        return self.model.discriminator(torch.cat([image, output.condition], dim=1))


def make_trainer(
    images: Path,
    out: Path,
    *,
    max_steps: int,
    workers: int = 0,
    step_type: Callable[[], TinyDetailStep] = TinyDetailStep,
    validation: float = 0.25,
    per_item: int = 2,
    **intervals: int,
) -> Trainer:
    """A trainer on the folders below `images`, seeded like a real run; resumed if `out` holds a run."""
    seed_everything(0)
    step = step_type()
    model = step.model
    painters = [*model.detail_encoder.parameters(), *model.generator.parameters()]
    optimizers = DetailOptimizers(
        generator=torch.optim.Adam(painters, lr=1e-2, betas=(0.5, 0.999)),
        discriminator=torch.optim.Adam(model.discriminator.parameters(), lr=1e-2, betas=(0.5, 0.999)),
    )
    split = split_clips([Source(root=images)], validation, seed=0)
    loaders = make_identity_loaders(
        split, images=per_item, landmark_indices=LANDMARK_INDICES, workers=workers, batch_size=1, seed=0
    )
    steps = {"max_epochs": 50, "log_steps": 1, "vis_steps": 1, "checkpoint_steps": 2} | intervals
    schedule = Schedule(steps_per_epoch=loaders.sampler.batches_per_epoch, max_steps=max_steps, **steps)
    config = {"train": {"max_steps": max_steps}, "data": {"workers": workers}}
    run = open_run(out, config, split.record(), resume=True)
    quiet = Console(file=io.StringIO())
    log = RunLog(run.logs, name="tiny", console=quiet)
    trainer = Trainer(
        IdentityStep(step),
        AlternatingUpdate(step, optimizers),
        loaders,
        schedule=schedule,
        run=run,
        log=log,
        config=config,
        console=quiet,
    )
    trainer.resume()
    return trainer


if __name__ == "__main__":
    torch.set_num_threads(1)
    make_trainer(Path(sys.argv[1]), Path(sys.argv[2]), max_steps=int(sys.argv[3]), workers=int(sys.argv[4])).fit()
