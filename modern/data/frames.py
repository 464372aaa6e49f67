"""Readers for the four files of one frame: image, two landmark sets, label map.

Axes: H = W = the size asked for, after resizing; L landmarks; 3 = RGB or (x, y, confidence).
Every problem is a `DataError` that names the file, what is wrong with it and what to do.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

SIZE = 224
# Label maps follow the 14 classes of iBUG's face parser; what a label is worth to the photometric loss (coarse spec 8).
_EMPHASISED = (4, 5, 7, 8, 9)  # eyes, lips, inner mouth
_IGNORED = (10, 11, 12, 13)  # hair, ears, glasses; 0 is background
_LABELS = 256

Landmarks = NDArray[np.float32]


class DataError(ValueError):
    """A clip that cannot be used; the message names the file, the fault and the remedy."""


def read_image(path: Path, size: int = SIZE) -> NDArray[np.float32]:
    """Read one frame as RGB in 0..1, resized bilinearly if it is not `size` wide (coarse spec 8).

    Returns:
        [size,size,3] float32.

    Raises:
        DataError: if the file is missing, unreadable or not square.
    """
    try:
        with Image.open(path) as picture:
            pixels_HW3 = np.asarray(picture.convert("RGB"))
    except FileNotFoundError:
        raise DataError(f"{path}: image is missing; restore it or remove the frame from its sibling folders") from None
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise DataError(f"{path}: unreadable image ({error}); write it again or remove the frame") from error
    height, width = pixels_HW3.shape[:2]
    if height != width:
        raise DataError(f"{path}: image is {width}x{height} pixels, expected a square; crop the face to {size}x{size}")
    # Divided and resized in float64, then rounded once.
    image_HW3 = pixels_HW3 / 255.0
    if width != size:
        image_HW3 = np.asarray(cv2.resize(image_HW3, (size, size), interpolation=cv2.INTER_LINEAR))
    return image_HW3.astype(np.float32)


def read_landmarks(path: Path) -> Landmarks:
    """Read the 68 landmarks of one frame: x, y in [-1,1] (x right, y down) and a confidence.

    Returns:
        [68,3] float32.

    Raises:
        DataError: if the file is missing, unreadable, of another shape, or holds NaN or infinity.
    """
    return _finite(path, _points(path, {68}))


def read_dense_landmarks(path: Path, landmark_indices: NDArray[np.int64]) -> Landmarks:
    """Read the dense landmarks of one frame and keep the 105 the model knows.

    Args:
        path: an array of all mediapipe points, or of the 105 already picked; further columns are ignored.
        landmark_indices: [105] which of mediapipe's points to keep.

    Returns:
        [105,3] float32.

    Raises:
        DataError: as `read_landmarks`.
    """
    count = len(landmark_indices)
    points_L3 = _points(path, {count, 468, 478})
    if len(points_L3) != count:
        if int(landmark_indices.max()) >= len(points_L3):
            raise DataError(f"{path}: {len(points_L3)} points, but landmark_indices asks for {landmark_indices.max()}")
        points_L3 = points_L3[landmark_indices]
    return _finite(path, points_L3)


def read_mask(path: Path, size: int = SIZE) -> NDArray[np.float32]:
    """Read one label map as the photometric loss weighs it: 0 ignored, 1 face, 2 emphasised (coarse spec 8).

    Returns:
        [size,size] float32 of 0, 1, 2; resized by nearest neighbour if it is not `size` wide.

    Raises:
        DataError: if the file is missing, unreadable, not a square map, or holds labels outside 0..255.
    """
    return _resized(mask_from_labels(_read_labels(path)), size, cv2.INTER_NEAREST_EXACT)


def read_face_mask(path: Path, size: int = SIZE) -> NDArray[np.float32]:
    """Read one label map as the detail stage knows it: 1 face, 0 the rest (detail spec 6).

    Returns:
        [size,size] float32 in 0..1; resized bilinearly, hence with soft edges, if it is not `size` wide.

    Raises:
        DataError: as `read_mask`.
    """
    return _resized(np.minimum(mask_from_labels(_read_labels(path)), 1), size, cv2.INTER_LINEAR)


def mask_from_labels(labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Map parser labels to 0 (background, hair, ears, glasses), 2 (eyes, lips, mouth) or 1 (the rest), elementwise."""
    weights = np.ones(_LABELS, dtype=np.float32)
    weights[[0, *_IGNORED]] = 0.0
    weights[list(_EMPHASISED)] = 2.0
    return weights[labels]


def _read_labels(path: Path) -> NDArray[np.int64]:
    labels_HW = _load_array(path)
    if labels_HW.ndim != 2 or labels_HW.shape[0] != labels_HW.shape[1]:
        raise DataError(f"{path}: label map has shape {labels_HW.shape}, expected a square (H, W) map of its image")
    if not np.logical_and(np.greater_equal(labels_HW, 0), np.less(labels_HW, _LABELS)).all():
        raise DataError(f"{path}: label map holds values outside 0..{_LABELS - 1}; write class labels, not scores")
    return labels_HW.astype(np.int64)


def _resized(mask_HW: NDArray[np.float32], size: int, interpolation: int) -> NDArray[np.float32]:
    if mask_HW.shape[1] == size:
        return mask_HW
    return np.asarray(cv2.resize(mask_HW, (size, size), interpolation=interpolation), np.float32)


def _points(path: Path, counts: set[int]) -> Landmarks:
    points = _load_array(path)
    if points.ndim != 2 or points.shape[0] not in counts or points.shape[1] < 3:
        wanted = " or ".join(f"({count}, 3)" for count in sorted(counts))
        raise DataError(f"{path}: landmarks have shape {points.shape}, expected {wanted}; detect this frame again")
    return points[:, :3].astype(np.float32)


def _finite(path: Path, points_L3: Landmarks) -> Landmarks:
    if bad := int((~np.isfinite(points_L3)).any(axis=1).sum()):
        raise DataError(f"{path}: {bad} of {len(points_L3)} landmarks are NaN or infinite; remove or mend this frame")
    return points_L3


def _load_array(path: Path) -> NDArray[np.generic]:
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{path}: file is missing; every image needs its kpts, kpts_dense and masks") from None
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: unreadable array ({error}); save it again with numpy.save") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "buif":
        raise DataError(f"{path}: expected one numeric array saved by numpy.save")
    return array
