"""Normals of the displaced surface in texture space (detail spec 3.3). Axes: B images, S texels, N = S x S texels."""

from __future__ import annotations

import torch
from torch import Tensor

from modern.mesh import vertex_normals

_MARGIN_COLUMNS, _MARGIN_ROWS = 2, 5  # texels at the border that belong to no triangle and so get a zero normal


def grid_faces(size: int) -> Tensor:
    """Triangles [F,3] over the texels of a square map, two per cell, column by column."""
    columns = torch.arange(_MARGIN_COLUMNS, size - _MARGIN_COLUMNS - 1)[:, None]
    rows = torch.arange(_MARGIN_ROWS, size - _MARGIN_ROWS - 1)[None, :]
    corner = (rows * size + columns).flatten()
    right, below, across = corner + 1, corner + size, corner + size + 1
    first = torch.stack([corner, below, right], dim=1)
    second = torch.stack([right, below, across], dim=1)
    return torch.stack([first, second], dim=1).flatten(0, 1)


def displaced(uv_z_B1SS: Tensor, uv_vertices_B3SS: Tensor, uv_normals_B3SS: Tensor, fixed_SS: Tensor) -> Tensor:
    """Each texel moved along its normal by its own and the fixed displacement -> [B,3,S,S]."""
    return uv_vertices_B3SS + uv_z_B1SS * uv_normals_B3SS + fixed_SS * uv_normals_B3SS


def detail_normals(
    uv_z_B1SS: Tensor,
    uv_vertices_B3SS: Tensor,
    uv_normals_B3SS: Tensor,
    *,
    mask_11SS: Tensor,
    fixed_SS: Tensor,
    faces_F3: Tensor,
) -> Tensor:
    """Normals of the displaced grid within the face, of the smooth head outside -> [B,3,S,S].

    Args:
        uv_z_B1SS: displacement; the only input that gets a gradient from training.
        uv_vertices_B3SS: position of each texel, metres.
        uv_normals_B3SS: its normal.
        mask_11SS: face and eyes in texture space, 0..1.
        fixed_SS: displacement that every head has, metres.
        faces_F3: `grid_faces` of the map.
    """
    moved_B3SS = displaced(uv_z_B1SS * mask_11SS, uv_vertices_B3SS, uv_normals_B3SS, fixed_SS)
    size = moved_B3SS.shape[-1]
    normals_BN3 = vertex_normals(moved_B3SS.permute(0, 2, 3, 1).reshape(len(moved_B3SS), -1, 3), faces_F3)
    normals_B3SS = normals_BN3.view(-1, size, size, 3).permute(0, 3, 1, 2)
    return normals_B3SS * mask_11SS + uv_normals_B3SS * (1 - mask_11SS)
