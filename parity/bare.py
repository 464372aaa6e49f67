"""A subject's own training loop with nothing recorded: what the audit's taps are held against.

Used to prove that recording changes nothing (`parity/observer.py`), to time it, and to run many steps (`parity/steps`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from parity.batch import Batch


class BareLoop(Protocol):
    """One run of a subject's training loop.

    networks: everything the loop runs, by legacy name. optimizers: by name, as configured, fresh.
    coder: the trained network whose first output in a step holds the codes.
    """

    networks: Mapping[str, nn.Module]
    optimizers: Mapping[str, Optimizer]
    coder: nn.Module

    def step(self, batch: Batch, number: int) -> dict[str, Tensor]:
        """One training step on a fresh copy of `batch`; what the subject's own functions return, as `stage/tensor`."""
        ...

    def updated(self) -> dict[str, Tensor]:
        """What the last step left in optimizers and gradients, as `stage/tensor`; live tensors, not copies."""
        ...

    def trained(self) -> dict[str, Tensor]:
        """The trained parameters by legacy key; live tensors, not copies."""
        ...
