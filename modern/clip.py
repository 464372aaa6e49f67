"""Frames with their landmarks and masks, one item of training: of a clip, or of one identity.

Axes: T = 3 consecutive frames (the centre, index 1, is reconstructed), K images in no order, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

FRAMES = 3
CENTRE = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """Tensors that belong together.

    Attributes:
        names: where the images come from; informative only.
    """

    names: tuple[str, ...] = ()

    def to(self, device: torch.device | str) -> Self:
        """The sample with its tensors on `device`."""
        return self._map(lambda tensor: tensor.to(device))

    def pin_memory(self) -> Self:
        """The sample in page-locked memory, for data loaders."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, function: Callable[[Tensor], Tensor]) -> Self:
        names = (item.name for item in fields(self) if item.name != "names")
        moved: dict[str, Any] = {name: function(getattr(self, name)) for name in names}
        return replace(self, **moved)

    def _check(self, kind: str, expected: Mapping[str, tuple[int, ...]]) -> None:
        for name, shape in expected.items():
            if (found := tuple(getattr(self, name).shape)) != shape:
                raise ValueError(f"{kind} {' '.join(self.names)}: {name} has shape {found}, expected {shape}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip(Sample):
    """One clip (coarse spec 8).

    Attributes:
        image_T3HW: RGB, 0..1.
        landmark_T683: x, y in [-1,1] (x right, y down) and a confidence.
        landmark_dense_T1053: likewise, 105 points.
        mask_T3HW: 0 background, 1 face, 2 emphasised (eyes, lips), the same in 3 channels.

    Raises:
        ValueError: if the tensors do not have these shapes.
    """

    image_T3HW: Tensor
    landmark_T683: Tensor
    landmark_dense_T1053: Tensor
    mask_T3HW: Tensor

    def __post_init__(self) -> None:
        raster = self.image_T3HW.shape[-2:]
        expected = {
            "image_T3HW": (FRAMES, 3, *raster),
            "landmark_T683": (FRAMES, 68, 3),
            "landmark_dense_T1053": (FRAMES, 105, 3),
            "mask_T3HW": (FRAMES, 3, *raster),
        }
        self._check("clip", expected)


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity(Sample):
    """K images of one person (detail spec 6).

    Attributes:
        image_K3HW: RGB, 0..1.
        landmark_K683: x, y in [-1,1] (x right, y down) and a confidence.
        landmark_dense_K1053: likewise, 105 points.
        mask_KHW: 1 face, 0 background, hair, ears and glasses; between them where the map was resized.

    Raises:
        ValueError: if the tensors do not have these shapes.
    """

    image_K3HW: Tensor
    landmark_K683: Tensor
    landmark_dense_K1053: Tensor
    mask_KHW: Tensor

    def __post_init__(self) -> None:
        count, raster = len(self.image_K3HW), self.image_K3HW.shape[-2:]
        expected = {
            "image_K3HW": (count, 3, *raster),
            "landmark_K683": (count, 68, 3),
            "landmark_dense_K1053": (count, 105, 3),
            "mask_KHW": (count, *raster),
        }
        self._check("identity", expected)
