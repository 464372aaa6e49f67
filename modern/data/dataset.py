"""Clips as items: which three frames of a clip an epoch sees, or always the same ones for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from torch.utils.data import Dataset

from modern.clip import Clip
from modern.data.clip_folder import ClipFolder, Indices, load_window
from modern.data.frames import SIZE
from modern.data.keyed import keyed_integer
from modern.data.sampler import Item

Window = Literal["random", "first", "centre"]


class ClipDataset(Dataset[Clip]):
    """Three consecutive frames of each clip.

    Args:
        clips: one entry per item; the same clip may occur several times.
        landmark_indices: [105] which of mediapipe's points are the dense landmarks.
        window: `random` is keyed by (seed, epoch, entry), hence the same for any number of workers and any order of
            asking; `first` and `centre` do not depend on them.
        seed: of the random windows.
        size: rows = columns of images and masks.
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
        self._clips = tuple(clips)
        self._landmark_indices = np.asarray(landmark_indices, dtype=np.int64)
        self._window, self._seed, self._size = window, seed, size

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, item: Item) -> Clip:
        """Read the clip of an item.

        Raises:
            DataError: if a file of it cannot be used.
        """
        clip = self._clips[item.entry]
        return load_window(clip, self.start(item, clip.windows), self._landmark_indices, self._size)

    def start(self, item: Item, windows: int) -> int:
        """Position of the first of the three frames, 0..windows-1."""
        if self._window == "random":
            return keyed_integer(windows, self._seed, "window", item.epoch, item.entry)
        return 0 if self._window == "first" else (windows - 1) // 2
