"""Vertex normals. Axes: B meshes, V vertices, F faces with corners a, b, c."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_EPS = 1e-6  # absolute; a vertex whose faces are tiny gets a normal shorter than 1


def vertex_normals(vertices_BV3: Tensor, faces_F3: Tensor) -> Tensor:
    """Area-weighted mean of the face normals around each vertex, of unit length -> [B,V,3].

    Each corner adds the cross product of its own two edges, all corners b first, then c, then a (coarse spec 5.4); in
    exact arithmetic the three are equal.
    """
    batch, count = vertices_BV3.shape[:2]
    offset_B11 = count * torch.arange(batch, device=faces_F3.device)[:, None, None]
    ids_N3 = (faces_F3 + offset_B11).flatten(0, 1)
    corners = vertices_BV3.reshape(-1, 3)[ids_N3].unbind(1)
    normals = vertices_BV3.new_zeros(batch * count, 3)
    for corner in (1, 2, 0):
        here, following, preceding = (corners[(corner + turn) % 3] for turn in (0, 1, 2))
        area_vector = torch.linalg.cross(following - here, preceding - here)
        normals = normals.index_add(0, ids_N3[:, corner], area_vector)
    return F.normalize(normals, dim=1, eps=_EPS).view(batch, count, 3)
