"""Data loaders whose batches do not depend on the number of workers, and which leave the global generators alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader

from modern.clip import Clip
from modern.data.clip_folder import Indices
from modern.data.dataset import ClipDataset, Window
from modern.data.frames import SIZE
from modern.data.sampler import EpochSampler, Item
from modern.data.sources import Split
from modern.train.seeding import worker_init

Batch = tuple[Clip, ...]


@dataclass(frozen=True)
class Loaders:
    """What the trainer reads from.

    Attributes:
        train: yields one epoch of batches, as its sampler says.
        sampler: order of and position in the epoch.
        validation: yields each validation clip once; None without validation clips.
    """

    train: DataLoader[Clip]
    sampler: EpochSampler
    validation: DataLoader[Clip] | None


def make_loaders(
    split: Split,
    *,
    landmark_indices: Indices,
    batch_size: int = 1,
    workers: int = 0,
    seed: int = 0,
    size: int = SIZE,
    validation_window: Window = "centre",
) -> Loaders:
    """Build the loaders of a run.

    Args:
        split: the clips.
        landmark_indices: [105] which of mediapipe's points are the dense landmarks.
        batch_size: clips per update.
        workers: loading processes; 0 loads in the main process. Does not change the batches.
        seed: of order and windows.
        size: rows = columns of images and masks.
        validation_window: which frames validation sees.
    """
    train = ClipDataset(split.train, landmark_indices=landmark_indices, seed=seed, size=size)
    sampler = EpochSampler(len(train), batch_size=batch_size, seed=seed)
    validation = None
    if split.validation:
        held_back = ClipDataset(
            split.validation, landmark_indices=landmark_indices, window=validation_window, size=size
        )
        validation = _loader(held_back, [[Item(0, entry)] for entry in range(len(held_back))], workers)
    return Loaders(_loader(train, sampler, workers), sampler, validation)


def _loader(dataset: ClipDataset, batches: EpochSampler | list[list[Item]], workers: int) -> DataLoader[Clip]:
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=worker_init,
        generator=torch.Generator().manual_seed(0),  # its own, or starting an epoch would draw from the global one
    )


def collate(clips: Sequence[Clip]) -> Batch:
    """A batch is its clips side by side: the sequence model reads one clip at a time (coarse spec 3)."""
    return tuple(clips)
