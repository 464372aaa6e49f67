"""One clip on disk in the lab's layout, and three consecutive frames of it.

A clip is known by the folder of its images. The landmark and mask files of a frame lie in sibling folders that differ
in one path component, `images` -> `kpts`, `kpts_dense`, `masks`; both arrangements in use are covered by that rule:
`clip/images/0000.png` and `dataset/images/person/clip/0000.png`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modern.clip import FRAMES, Clip, Identity
from modern.data.frames import (
    SIZE,
    DataError,
    read_dense_landmarks,
    read_face_mask,
    read_image,
    read_landmarks,
    read_mask,
)

KINDS = ("images", "kpts", "kpts_dense", "masks")
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp"})

Indices = Sequence[int] | NDArray[np.int64] | Tensor


@dataclass(frozen=True)
class ClipFolder:
    """A clip and where its files are.

    Attributes:
        images: folder that holds its frames, with a path component named `images`.
    """

    images: Path

    @classmethod
    def find(cls, folder: Path) -> ClipFolder:
        """Recognise a clip by any of its folders: the one above `images/`, or one of the four siblings.

        Raises:
            DataError: if `folder` is not part of such a layout.
        """
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; expected a clip with {', '.join(KINDS)}")
        if (folder / "images").is_dir():
            return cls(folder / "images")
        if not set(KINDS) & set(folder.parts):
            raise DataError(f"{folder}: neither holds images/ nor lies under one of {', '.join(KINDS)}")
        return cls(_replace_kind(folder, "images"))

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """Image files in order of their names.

        Raises:
            DataError: if there is no such folder.
        """
        if not self.images.is_dir():
            raise DataError(f"{self.images}: no such folder; the images of a clip must lie there")
        return tuple(sorted(path for path in self.images.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES))

    @property
    def frames(self) -> tuple[Path, ...]:
        """The files, as frames of a clip.

        Raises:
            DataError: if there is no such folder or it has fewer than three images.
        """
        if len(self.files) < FRAMES:
            raise DataError(
                f"{self.images}: {len(self.files)} images, a clip needs at least {FRAMES}; remove this clip"
            )
        return self.files

    @property
    def windows(self) -> int:
        """How many runs of three consecutive frames there are."""
        return len(self.frames) - FRAMES + 1

    def sibling(self, image: Path, kind: str) -> Path:
        """The array file that belongs to an image of this clip."""
        return (_replace_kind(self.images, kind) / image.name).with_suffix(".npy")


def load_clip(folder: Path, start: int = 0, *, landmark_indices: Indices, size: int = SIZE) -> Clip:
    """Read three consecutive frames (coarse spec 8).

    Args:
        folder: the clip, as `ClipFolder.find` accepts it.
        start: position of the first of the three frames among the clip's frames in order of name.
        landmark_indices: [105] which of mediapipe's points are the dense landmarks.
        size: rows = columns of images and masks.

    Raises:
        DataError: if the window lies outside the clip or a file is missing, unreadable or malformed.
    """
    return load_window(ClipFolder.find(Path(folder)), start, np.asarray(landmark_indices, dtype=np.int64), size)


def load_window(clip: ClipFolder, start: int, landmark_indices: NDArray[np.int64], size: int = SIZE) -> Clip:
    """As `load_clip`, for a clip already found."""
    if not 0 <= start < clip.windows:
        raise DataError(f"{clip.images}: no window starts at frame {start}; choose 0..{clip.windows - 1}")
    frames = clip.frames[start : start + FRAMES]
    landmarks, dense = _load_landmarks(clip, frames, landmark_indices)
    mask_THW = _stacked(read_mask(clip.sibling(path, "masks"), size) for path in frames)
    return Clip(
        image_T3HW=load_images(frames, size),
        landmark_T683=landmarks,
        landmark_dense_T1053=dense,
        mask_T3HW=mask_THW[:, None].repeat(1, 3, 1, 1),
        names=tuple(str(path) for path in frames),
    )


def load_identity(
    clip: ClipFolder, images: Sequence[Path], landmark_indices: NDArray[np.int64], size: int = SIZE
) -> Identity:
    """Read images of one person (detail spec 6).

    Args:
        clip: the folder of that person.
        images: some of its files.
        landmark_indices: [105] which of mediapipe's points are the dense landmarks.
        size: rows = columns of images and masks.

    Raises:
        DataError: if a file is missing, unreadable or malformed.
    """
    landmarks, dense = _load_landmarks(clip, images, landmark_indices)
    return Identity(
        image_K3HW=load_images(images, size),
        landmark_K683=landmarks,
        landmark_dense_K1053=dense,
        mask_KHW=_stacked(read_face_mask(clip.sibling(path, "masks"), size) for path in images),
        names=tuple(str(path) for path in images),
    )


def load_images(paths: Sequence[Path], size: int = SIZE) -> Tensor:
    """Read images alone -> [N,3,size,size] RGB in 0..1.

    Raises:
        DataError: if one is missing, unreadable or not square.
    """
    return torch.from_numpy(np.stack([read_image(path, size) for path in paths])).permute(0, 3, 1, 2).contiguous()


def _load_landmarks(
    clip: ClipFolder, images: Sequence[Path], landmark_indices: NDArray[np.int64]
) -> tuple[Tensor, Tensor]:
    return (
        _stacked(read_landmarks(clip.sibling(path, "kpts")) for path in images),
        _stacked(read_dense_landmarks(clip.sibling(path, "kpts_dense"), landmark_indices) for path in images),
    )


def _stacked(arrays: Iterable[NDArray[np.float32]]) -> Tensor:
    return torch.from_numpy(np.stack(list(arrays)))


def _replace_kind(folder: Path, kind: str) -> Path:
    """Replace the last component that names a kind of file; other parts of the path may contain the same letters."""
    parts = list(folder.parts)
    last = max(index for index, part in enumerate(parts) if part in KINDS)
    parts[last] = kind
    return Path(*parts)
