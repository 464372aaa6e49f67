"""Scaled orthographic projection to the crop (coarse spec 5.3).

Axes: B heads, L points. Model space: metres, y up, z towards the viewer. Image space: [-1,1], x right, y down.
"""

from __future__ import annotations

import torch
from torch import Tensor

from modern.flame import Mesh


def orthographic(points_BL3: Tensor, cam_B3: Tensor) -> Tensor:
    """S (x + tx), s (y + ty), s z with cam = (s, tx, ty)."""
    scale, shift = cam_B3[:, None, :1], cam_B3[:, None, 1:]
    return scale * torch.cat([points_BL3[..., :2] + shift, points_BL3[..., 2:]], dim=2)


def project(mesh: Mesh, cam_B3: Tensor) -> Mesh:
    """The mesh in image space: projected, then y and z negated. 2-D and dense landmarks keep (x, y) only."""

    def to_image(points_BL3: Tensor) -> Tensor:
        projected = orthographic(points_BL3, cam_B3)
        return torch.cat([projected[..., :1], -projected[..., 1:]], dim=2)

    return Mesh(
        vertices_BV3=to_image(mesh.vertices_BV3),
        landmarks2d=to_image(mesh.landmarks2d)[..., :2],
        landmarks3d_B683=to_image(mesh.landmarks3d_B683),
        landmarks_dense=to_image(mesh.landmarks_dense)[..., :2],
    )
