"""Data loaders whose batches do not depend on the number of workers, and which leave the global generators alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader

from modern.clip import Clip, Identity, Sample
from modern.data.clip_folder import Indices
from modern.data.dataset import ClipDataset, FolderDataset, IdentityDataset, Window
from modern.data.frames import SIZE
from modern.data.sampler import EpochSampler, Item
from modern.data.sources import Split
from modern.train.seeding import worker_init

Read = TypeVar("Read", bound=Sample)


@dataclass(frozen=True)
class Loaders(Generic[Read]):
    """What the trainer reads from.

    Attributes:
        train: yields one epoch of batches, as its sampler says.
        sampler: order of and position in the epoch.
        validation: yields each validation clip once; None without validation clips.
    """

    train: DataLoader[Read]
    sampler: EpochSampler
    validation: DataLoader[Read] | None


def make_loaders(
    split: Split,
    *,
    landmark_indices: Indices,
    batch_size: int = 1,
    workers: int = 0,
    seed: int = 0,
    size: int = SIZE,
    validation_window: Window = "centre",
) -> Loaders[Clip]:
    """Build the loaders of a run on clips.

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
    held_back = ClipDataset(split.validation, landmark_indices=landmark_indices, window=validation_window, size=size)
    return _loaders(train, held_back, batch_size, workers, seed)


def make_identity_loaders(
    split: Split,
    *,
    images: int,
    landmark_indices: Indices,
    batch_size: int = 1,
    workers: int = 0,
    seed: int = 0,
    size: int = SIZE,
) -> Loaders[Identity]:
    """Build the loaders of a run on identities.

    Args:
        split: the folders, each one identity.
        images: images of an identity in each item; validation sees as many, evenly spread.
        landmark_indices: as for `make_loaders`, like the following.
        batch_size: identities per update.
        workers: loading processes.
        seed: of order and choice.
        size: rows = columns of images and masks.

    Raises:
        DataError: if folders hold fewer images, naming them.
    """
    train = IdentityDataset(split.train, images=images, landmark_indices=landmark_indices, seed=seed, size=size)
    held_back = IdentityDataset(
        split.validation, images=images, landmark_indices=landmark_indices, choice="spread", size=size
    )
    return _loaders(train, held_back, batch_size, workers, seed)


def _loaders(
    train: FolderDataset[Read], held_back: FolderDataset[Read], batch_size: int, workers: int, seed: int
) -> Loaders[Read]:
    sampler = EpochSampler(len(train), batch_size=batch_size, seed=seed)
    validation = None
    if len(held_back):
        validation = _loader(held_back, [[Item(0, entry)] for entry in range(len(held_back))], workers)
    return Loaders(_loader(train, sampler, workers), sampler, validation)


def _loader(dataset: FolderDataset[Read], batches: EpochSampler | list[list[Item]], workers: int) -> DataLoader[Read]:
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=worker_init,
        generator=torch.Generator().manual_seed(0),  # its own, or starting an epoch would draw from the global one
    )


def collate(samples: Sequence[Read]) -> tuple[Read, ...]:
    """A batch is its samples side by side: the steps put their tensors together as they need them."""
    return tuple(samples)
