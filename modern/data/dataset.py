"""Folders as items: which of its images an epoch sees, or always the same ones for evaluation."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from torch.utils.data import Dataset

from modern.clip import Clip, Identity, Sample
from modern.data.clip_folder import ClipFolder, Indices, load_identity, load_window
from modern.data.frames import SIZE, DataError
from modern.data.keyed import keyed_integer, keyed_seed
from modern.data.sampler import Item

Window = Literal["random", "first", "centre"]
Read = TypeVar("Read", bound=Sample)


class FolderDataset(Dataset[Read], ABC):
    """One sample of each folder.

    Args:
        clips: one entry per item; the same folder may occur several times.
        landmark_indices: [105] which of mediapipe's points are the dense landmarks.
        seed: of what is chosen, keyed by (seed, epoch, entry), hence the same for any number of workers and any order
            of asking.
        size: rows = columns of images and masks.
    """

    def __init__(
        self, clips: Sequence[ClipFolder], *, landmark_indices: Indices, seed: int = 0, size: int = SIZE
    ) -> None:
        self._clips = tuple(clips)
        self._landmark_indices = np.asarray(landmark_indices, dtype=np.int64)
        self._seed, self._size = seed, size

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, item: Item) -> Read:
        """Read what an item shows of its folder.

        Raises:
            DataError: if a file of it cannot be used.
        """
        return self.read(self._clips[item.entry], item)

    @abstractmethod
    def read(self, clip: ClipFolder, item: Item) -> Read:
        """As `__getitem__`, from the folder of the item."""


class ClipDataset(FolderDataset[Clip]):
    """Three consecutive frames of each clip.

    Args:
        clips: as for `FolderDataset`, like the other arguments.
        window: `random` is keyed; `first` and `centre` depend on nothing.
    """

    def __init__(
        self,
        clips: Sequence[ClipFolder],
        *,
        landmark_indices: Indices,
        window: Window = "random",
        seed: int = 0,
        size: int = SIZE,
    ) -> None:
        super().__init__(clips, landmark_indices=landmark_indices, seed=seed, size=size)
        self._window = window

    def read(self, clip: ClipFolder, item: Item) -> Clip:
        """Read the window of an item."""
        return load_window(clip, self.start(item, clip.windows), self._landmark_indices, self._size)

    def start(self, item: Item, windows: int) -> int:
        """Position of the first of the three frames, 0..windows-1."""
        if self._window == "random":
            return keyed_integer(windows, self._seed, "window", item.epoch, item.entry)
        return 0 if self._window == "first" else (windows - 1) // 2


class IdentityDataset(FolderDataset[Identity]):
    """K different images of each identity (detail spec 6).

    Args:
        clips: as for `FolderDataset`, like the other arguments; each is one identity.
        images: K.
        choice: `random` is keyed; `spread` takes the middles of K equal parts of the folder.

    Raises:
        DataError: if folders hold fewer than K images, naming them; legacy tries the next folder instead, for ever if
            there is none.
    """

    def __init__(
        self,
        clips: Sequence[ClipFolder],
        *,
        images: int,
        landmark_indices: Indices,
        choice: Literal["random", "spread"] = "random",
        seed: int = 0,
        size: int = SIZE,
    ) -> None:
        super().__init__(clips, landmark_indices=landmark_indices, seed=seed, size=size)
        self._images, self._choice = images, choice
        if short := [clip for clip in dict.fromkeys(self._clips) if len(clip.files) < images]:
            more = f" and {len(short) - 1} more folders likewise" if len(short) > 1 else ""
            raise DataError(
                f"{short[0].images}: {len(short[0].files)} images, an item needs {images}{more}; "
                "remove them or lower data.images"
            )

    def read(self, clip: ClipFolder, item: Item) -> Identity:
        """Read the images of an item."""
        chosen: list[Path] = [clip.files[index] for index in self.chosen(item, len(clip.files))]
        return load_identity(clip, chosen, self._landmark_indices, self._size)

    def chosen(self, item: Item, count: int) -> list[int]:
        """Positions of the images among the `count` of the folder: K different ones of 0..count-1."""
        if self._choice == "random":
            return random.Random(keyed_seed(self._seed, "images", item.epoch, item.entry)).sample(
                range(count), self._images
            )
        return [(2 * index + 1) * count // (2 * self._images) for index in range(self._images)]
