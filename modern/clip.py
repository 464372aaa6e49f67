"""Three consecutive frames with their landmarks and mask: what the model is trained on.

Axes: T = 3 frames (the centre, index 1, is reconstructed), H W image rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

FRAMES = 3
CENTRE = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """One clip (coarse spec 8).

    Attributes:
        image_T3HW: RGB, 0..1.
        landmark_T683: x, y in [-1,1] (x right, y down) and a confidence.
        landmark_dense_T1053: likewise, 105 points.
        mask_T3HW: 0 background, 1 face, 2 emphasised (eyes, lips), the same in 3 channels.
        names: where the frames come from; informative only.

    Raises:
        ValueError: if the tensors do not have these shapes.
    """

    image_T3HW: Tensor
    landmark_T683: Tensor
    landmark_dense_T1053: Tensor
    mask_T3HW: Tensor
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        raster = self.image_T3HW.shape[-2:]
        expected = {
            "image_T3HW": (FRAMES, 3, *raster),
            "landmark_T683": (FRAMES, 68, 3),
            "landmark_dense_T1053": (FRAMES, 105, 3),
            "mask_T3HW": (FRAMES, 3, *raster),
        }
        for name, shape in expected.items():
            if tuple(getattr(self, name).shape) != shape:
                found = tuple(getattr(self, name).shape)
                raise ValueError(f"clip {' '.join(self.names)}: {name} has shape {found}, expected {shape}")

    def to(self, device: torch.device | str) -> Clip:
        """The clip with its tensors on `device`."""
        return self._map(lambda tensor: tensor.to(device))

    def pin_memory(self) -> Clip:
        """The clip in page-locked memory, for data loaders."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, function: Callable[[Tensor], Tensor]) -> Clip:
        return Clip(
            image_T3HW=function(self.image_T3HW),
            landmark_T683=function(self.landmark_T683),
            landmark_dense_T1053=function(self.landmark_dense_T1053),
            mask_T3HW=function(self.mask_T3HW),
            names=self.names,
        )
