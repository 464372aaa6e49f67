"""The order of an epoch, known from (seed, epoch) alone, so that a run can continue anywhere in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch.utils.data import Sampler

from modern.data.keyed import keyed_seed


class Item(NamedTuple):
    """One draw: which entry of the data set, in which epoch (the epoch decides the window)."""

    epoch: int
    entry: int


class EpochSampler(Sampler[list[Item]]):
    """Yields the batches of one epoch, each a list of `Item`; an incomplete last batch is dropped (coarse spec 7).

    Attributes:
        epoch: which epoch the next iteration yields.
        start: how many of its batches to leave out, after resuming.

    Raises:
        ValueError: if there are fewer items than one batch needs.
    """

    def __init__(self, length: int, *, batch_size: int = 1, seed: int = 0) -> None:
        if batch_size < 1 or length < batch_size:
            raise ValueError(f"{length} items cannot fill one batch of {batch_size}; add clips or lower batch_size")
        self._length, self._batch_size, self._seed = length, batch_size, seed
        self.epoch, self.start = 0, 0

    @property
    def batches_per_epoch(self) -> int:
        """Batches of a whole epoch."""
        return self._length // self._batch_size

    def seek(self, step: int) -> None:
        """Continue before the batch that a run over whole epochs would use at `step`."""
        self.epoch, self.start = divmod(step, self.batches_per_epoch)

    def __len__(self) -> int:
        return self.batches_per_epoch - self.start

    def __iter__(self) -> Iterator[list[Item]]:
        epoch, size = self.epoch, self._batch_size
        generator = torch.Generator().manual_seed(keyed_seed(self._seed, "order", epoch))
        order = torch.randperm(self._length, generator=generator).tolist()
        for batch in range(self.start, self.batches_per_epoch):
            yield [Item(epoch, entry) for entry in order[batch * size : (batch + 1) * size]]
