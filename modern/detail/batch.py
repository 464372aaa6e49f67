"""What the detail stage is trained on. Axes: B images (identities x images of each), H W rows and columns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class DetailBatch:
    """Photographs and face masks.

    Attributes:
        image_B3HW: RGB, 0..1.
        mask_BHW: 1 on the face, 0 elsewhere, soft edges allowed.
        names: where the images come from; informative only.

    Raises:
        ValueError: if the tensors do not have these shapes.
    """

    image_B3HW: Tensor
    mask_BHW: Tensor
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.image_B3HW.ndim != 4 or self.image_B3HW.shape[1] != 3:
            raise ValueError(f"images have shape {tuple(self.image_B3HW.shape)}, expected [B,3,H,W]")
        expected = (self.image_B3HW.shape[0], *self.image_B3HW.shape[2:])
        if tuple(self.mask_BHW.shape) != expected:
            raise ValueError(f"masks have shape {tuple(self.mask_BHW.shape)}, expected {expected}")

    def to(self, device: torch.device | str) -> DetailBatch:
        """The batch with its tensors on `device`."""
        return DetailBatch(image_B3HW=self.image_B3HW.to(device), mask_BHW=self.mask_BHW.to(device), names=self.names)

    def pin_memory(self) -> DetailBatch:
        """The batch in page-locked memory, for data loaders."""
        return DetailBatch(
            image_B3HW=self.image_B3HW.pin_memory(), mask_BHW=self.mask_BHW.pin_memory(), names=self.names
        )
