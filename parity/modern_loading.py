"""Modern's own loaders over given clips, for what they draw."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from modern.data.clip_folder import ClipFolder
from modern.data.loaders import make_identity_loaders, make_loaders
from modern.data.sources import Split

IMAGES = 2


def fetch_coarse(clips: Sequence[Path]) -> None:
    """One epoch of training batches as modern's trainer reads them."""
    _read(make_loaders(_split(clips), landmark_indices=np.arange(105)).train)


def fetch_detail(clips: Sequence[Path]) -> None:
    """One epoch of the detail stage."""
    _read(make_identity_loaders(_split(clips), images=IMAGES, landmark_indices=np.arange(105)).train)


def _split(clips: Sequence[Path]) -> Split:
    return Split(train=tuple(ClipFolder.find(clip) for clip in clips), validation=())


def _read(batches: Iterable[object]) -> None:
    for _ in batches:
        pass
