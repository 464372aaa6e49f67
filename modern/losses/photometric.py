"""Difference of picture and photograph (coarse spec 6). Axes: B clips, H W rows and columns."""

from __future__ import annotations

from torch import Tensor


def photometric(pred_B3HW: Tensor, image_B3HW: Tensor, mask: Tensor) -> Tensor:
    """Mean over pixels and channels of mask x absolute difference; mask is [B,3,H,W] or [B,1,H,W]."""
    return (mask * (pred_B3HW - image_B3HW).abs()).mean()
