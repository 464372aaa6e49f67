"""The photograph in texture space, and which texels it shows (detail spec 4.7, 4.8, 4.14).

Axes: B images, H W rows and columns, S texels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from modern.losses.deca import eroded

_FACING = -0.05
_PATCH = (400, 1648)  # first and last texel of the face on a map of 2048, both axes


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """What the photograph says about each texel.

    Attributes:
        texture_B3SS: colour at the texel's projection.
        visible_B1SS: 0..1 how far the texel is seen: on the face, towards the viewer, within the mask.
        unseen_B1SS: 1 where the texel is not well inside the seen region.
    """

    texture_B3SS: Tensor
    visible_B1SS: Tensor
    unseen_B1SS: Tensor


@torch.no_grad()
def observe(
    image_B3HW: Tensor,
    mask_BHW: Tensor,
    uv_projected_B3SS: Tensor,
    uv_projected_normals_B3SS: Tensor,
    uv_face_eye_mask_11SS: Tensor,
) -> Observation:
    """Sample photograph and face mask at the projection of each texel.

    Args:
        image_B3HW: photographs.
        mask_BHW: face masks, 0..1.
        uv_projected_B3SS: where each texel lies in the picture; only x and y are read.
        uv_projected_normals_B3SS: normals of the projected head; only z is read, negative towards the viewer.
        uv_face_eye_mask_11SS: face and eyes in texture space, 0..1.
    """
    grid_BSS2 = uv_projected_B3SS[:, :2].permute(0, 2, 3, 1)
    sampled = F.grid_sample(torch.cat([image_B3HW, mask_BHW[:, None]], dim=1), grid_BSS2, align_corners=False)
    facing = (uv_projected_normals_B3SS[:, 2:] < _FACING).to(sampled.dtype)
    visible = sampled[:, 3:] * facing * uv_face_eye_mask_11SS
    return Observation(texture_B3SS=sampled[:, :3], visible_B1SS=visible, unseen_B1SS=1 - eroded(visible))


def face_patches(texture_B3SS: Tensor, texture_gt_B3SS: Tensor, visible_B1SS: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The face's part of painted texture, photograph and visibility; they are masked after they are enlarged."""
    return face_patch(texture_B3SS), face_patch(texture_gt_B3SS), face_patch(visible_B1SS)


def face_patch(uv_BCSS: Tensor) -> Tensor:
    """The part of a map that holds the face, enlarged to the size of the map."""
    size = uv_BCSS.shape[-1]
    first, last = (int(texel / 2048 * size) for texel in _PATCH)
    patch = uv_BCSS[:, :, first:last, first:last]
    return F.interpolate(patch, (size, size), mode="bilinear", align_corners=False)
