"""What a stage brings to the trainer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer

from modern.data.loaders import Loaders
from modern.train.trainer import Draw, Step, Update


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """The parts of a run that differ between coarse and detail.

    Attributes:
        step: computes losses.
        update: changes weights; an optimizer alone stands for an update by the total loss.
        loaders: training and validation batches.
        frozen: networks outside the step's model that its losses read.
        draw: makes the picture of a step.
        notes: what a new run starts from, one sentence each.
    """

    step: Step
    update: Optimizer | Update
    loaders: Loaders[Any]
    frozen: tuple[nn.Module, ...]
    draw: Draw
    notes: tuple[str, ...] = ()
