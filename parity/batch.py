"""The identical input of every run: one clip of three frames with landmarks and mask.

Axes: T = 3 frames (the centre frame is index 1), 3 colour channels RGB, H = W = 224 pixels, L landmarks.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from fixtures import clip, seeded
from fixtures.head.landmark_targets import LANDMARK_INDICES
from modern.data.clip_folder import load_clip

FRAMES, SIZE = 3, 224
_SHAPES = {
    "image": (FRAMES, 3, SIZE, SIZE),
    "landmark": (FRAMES, 68, 3),
    "landmark_dense": (FRAMES, 105, 3),
    "mask": (FRAMES, 3, SIZE, SIZE),
}
# Landmarks are in [-1,1] across the crop; some may lie outside it, but pixel units are caught.
_LANDMARK_LIMIT = 2.0


class BatchError(ValueError):
    """A batch that must not be run; the message says what is wrong, where, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One clip.

    Attributes:
        name: what `load_batch` was asked for.
        image: [T,3,224,224] RGB, 0..1.
        landmark: [T,68,3] x, y in [-1,1] (x right, y down) and a confidence 0..1.
        landmark_dense: [T,105,3] likewise.
        mask: [T,3,224,224] 0 background, 1 face, 2 emphasised regions (eyes, lips).
        source: where the numbers come from, for the report.
        frame_names: one name per frame.

    Raises:
        BatchError: on a wrong shape or type, a non-finite value, or a value out of range.
    """

    name: str
    image: Tensor
    landmark: Tensor
    landmark_dense: Tensor
    mask: Tensor
    source: str
    frame_names: tuple[str, ...]

    def __post_init__(self) -> None:
        for field, shape in _SHAPES.items():
            _check_tensor(self.name, field, getattr(self, field), shape)
        _check_range(self.name, "image", self.image, 0.0, 1.0)
        for field in ("landmark", "landmark_dense"):
            points = getattr(self, field)
            _check_range(self.name, f"{field} x, y", points[..., :2], -_LANDMARK_LIMIT, _LANDMARK_LIMIT)
            _check_range(self.name, f"{field} confidence", points[..., 2], 0.0, 1.0)
        if not torch.isin(self.mask, torch.tensor([0.0, 1.0, 2.0], device=self.mask.device)).all():
            raise BatchError(f"batch {self.name}: mask holds values other than 0, 1, 2; convert the label map first")
        if len(self.frame_names) != FRAMES:
            raise BatchError(f"batch {self.name}: {len(self.frame_names)} frame names, expected {FRAMES}")

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The four input tensors by field name."""
        return {field: getattr(self, field) for field in _SHAPES}

    @property
    def digest(self) -> str:
        """SHA-256 over names, shapes and bytes of the four tensors."""
        sha = hashlib.sha256()
        for field, tensor in self.tensors.items():
            sha.update(f"{field} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            sha.update(tensor.cpu().contiguous().numpy().tobytes())
        return sha.hexdigest()

    def fresh(self) -> Batch:
        """A copy that shares no memory with this batch."""
        return self._with(lambda tensor: tensor.clone())

    def to(self, device: torch.device | str) -> Batch:
        """The batch with its tensors on `device`."""
        return self._with(lambda tensor: tensor.to(device))

    def _with(self, change: Callable[[Tensor], Tensor]) -> Batch:
        changed: dict[str, Any] = {field: change(tensor) for field, tensor in self.tensors.items()}
        return replace(self, **changed)

    def as_legacy(self) -> dict[str, Any]:
        """What the legacy data loader would yield for this clip: a leading batch axis of 1 (coarse spec 8)."""
        return {
            "image_224": self.image[None],
            "landmark": self.landmark[None],
            "landmark_dense": self.landmark_dense[None],
            "mask": self.mask[None],
            "imagesName": [[name] for name in self.frame_names],
        }

    @property
    def face_mask_BHW(self) -> Tensor:
        """[3,224,224] 1 on the face, 0 elsewhere: the mask of the detail stage, which knows no emphasis."""
        return (self.mask[:, 0] > 0).to(torch.float32)

    def as_legacy_detail(self) -> dict[str, Any]:
        """What legacy's data loader of the detail stage would yield: one identity with 3 images (detail spec 6)."""
        return self.as_legacy() | {"mask": self.face_mask_BHW[None]}


def _check_tensor(batch: str, field: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape or tensor.dtype != torch.float32:
        found = f"{tuple(tensor.shape)} {tensor.dtype}"
        raise BatchError(f"batch {batch}: {field} is {found}, expected {shape} torch.float32; crop and resize it first")
    if bad := int((~torch.isfinite(tensor)).sum()):
        raise BatchError(f"batch {batch}: {field} holds {bad} non-finite values; repair or drop those frames")


def _check_range(batch: str, what: str, tensor: Tensor, low: float, high: float) -> None:
    smallest, largest = float(tensor.min()), float(tensor.max())
    if smallest < low or largest > high:
        raise BatchError(f"batch {batch}: {what} spans {smallest:.4g}..{largest:.4g}, allowed {low:g}..{high:g}")


def load_batch(spec: str) -> Batch:
    """Load a batch by name.

    Args:
        spec: `carphone_0040` (the bundled real clip), `seeded` or `seeded:PREFIX` (drawn from names), or a folder in
            the lab's layout (images/, kpts/, kpts_dense/, masks/).

    Raises:
        BatchError: if there is no such batch, a file is missing or malformed, or the batch must not be run.
        ClipUnavailable: if the pixels of the bundled clip cannot be had here.
    """
    name, _, prefix = spec.partition(":")
    if name == "seeded":
        return seeded_batch(prefix)
    if spec == clip.NAME:
        return _bundled_batch()
    if not Path(spec).is_dir():
        raise BatchError(f"no batch {spec!r}: expected {clip.NAME}, seeded, seeded:PREFIX or an existing folder")
    return _folder_batch(Path(spec))


def _folder_batch(folder: Path) -> Batch:
    """The first three frames of a folder in the lab's layout."""
    try:
        loaded = load_clip(folder, landmark_indices=LANDMARK_INDICES)
    except (ValueError, OSError) as error:
        raise BatchError(str(error)) from error
    for frame in loaded.names:
        _check_picture(Path(frame))
    return Batch(
        name=folder.resolve().name,
        image=loaded.image_T3HW,
        landmark=loaded.landmark_T683,
        landmark_dense=loaded.landmark_dense_T1053,
        mask=loaded.mask_T3HW,
        source=f"folder {folder}",
        frame_names=tuple(loaded.names),
    )


def _check_picture(path: Path) -> None:
    """Refuse what would have to be resized: the two sides resize differently (defect D08)."""
    with Image.open(path) as picture:
        if picture.size != (SIZE, SIZE):
            width, height = picture.size
            raise BatchError(f"{path}: image is {width}x{height} pixels, an audit needs {SIZE}x{SIZE}; crop it first")


def _bundled_batch() -> Batch:
    """The bundled clip, written out in the lab's layout and read like any other folder."""
    manifest = clip.read_manifest()
    with tempfile.TemporaryDirectory() as folder:
        clip.write_clip_folder(Path(folder))
        batch = _folder_batch(Path(folder))
    first = manifest["first_frame"]
    return replace(
        batch,
        name=clip.NAME,
        source=f"{manifest['package']} {manifest['version']}, {Path(manifest['file']).name}, frames from {first}",
        frame_names=tuple(f"carphone_{first + index:04d}" for index in range(FRAMES)),
    )


def seeded_batch(prefix: str = "") -> Batch:
    """The clip of conformance/coarse/README.md ("Inputs"); `prefix` is put before every name drawn from."""

    def draw(name: str, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> Tensor:
        return seeded.uniform(name, shape, low, high, prefix=prefix)

    def points(name: str, count: int) -> Tensor:
        confidence = (draw(f"{name}/c", (FRAMES, count, 1)) >= 0.1).float()
        return torch.cat([draw(f"{name}/xy", (FRAMES, count, 2), -0.7, 0.7), confidence], dim=2)

    frame = _enlarge(draw("images_224/frame", (FRAMES, 3, 1, 1)))
    low = _enlarge(draw("images_224/low", (FRAMES, 3, 14, 14)))
    return Batch(
        name=f"seeded:{prefix}" if prefix else "seeded",
        image=frame * 0.4 + low * 0.4 + draw("images_224/fine", _SHAPES["image"]) * 0.2,
        landmark=points("landmark", 68),
        landmark_dense=points("landmark_dense", 105),
        mask=_enlarge(torch.floor(3 * draw("mask/low", (FRAMES, 1, 14, 14)))).repeat(1, 3, 1, 1),
        source=f"seeded tensors, prefix {prefix!r}",
        frame_names=tuple(f"seeded_{index:04d}" for index in range(FRAMES)),
    )


def _enlarge(cells: Tensor) -> Tensor:
    """Repeat each cell of [...,s,s] so that the picture is 224 x 224."""
    factor = SIZE // cells.shape[-1]
    return cells.repeat_interleave(factor, -2).repeat_interleave(factor, -1)
