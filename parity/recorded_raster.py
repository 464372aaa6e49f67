"""A recorded raster in place of the search for visible faces: values are given, the gradient is pytorch3d's.

Axes: N = 1 mesh, F faces, H W rows and columns, K = 1 face per pixel.
"""

from __future__ import annotations

from typing import Any

import torch
from pytorch3d import _C
from torch import Tensor


def recorded_barycentric(corners_F33: Tensor, face_ids_NHW: Tensor, barycentric_NHW3: Tensor) -> Tensor:
    """`barycentric_NHW3` as if rasterised from `corners_F33`, so that gradients flow to the corners.

    Args:
        corners_F33: corners of every face in pytorch3d's screen space.
        face_ids_NHW: int64, -1 for background.
        barycentric_NHW3: recorded coordinates.
    """
    found: Tensor = _Recorded.apply(corners_F33, face_ids_NHW, barycentric_NHW3)
    return found


class _Recorded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, corners_F33: Tensor, face_ids_NHW: Tensor, barycentric_NHW3: Tensor) -> Tensor:
        ctx.save_for_backward(corners_F33, face_ids_NHW)
        return barycentric_NHW3.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        corners_F33, face_ids_NHW = ctx.saved_tensors
        ids_NHWK = face_ids_NHW[..., None].contiguous()
        none = torch.zeros_like(ids_NHWK, dtype=corners_F33.dtype)  # depth and distance get no gradient
        gradient = gradients[0][..., None, :].contiguous()
        to_corners = _C.rasterize_meshes_backward(corners_F33, ids_NHWK, none, gradient, none, False, False)
        return to_corners, None, None
