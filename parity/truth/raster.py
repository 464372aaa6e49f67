"""Barycentric coordinates in float64: pytorch3d finds faces in float32 only, so which face a pixel shows is given.

Axes: N meshes, F faces of all meshes together, H W rows and columns, K = 1 face per pixel.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import pytorch3d.renderer.mesh  # noqa: F401  the module below is only reachable through sys.modules
import torch
from torch import Tensor

from parity import recorded_raster

_PYTORCH3D = "pytorch3d.renderer.mesh.rasterize_meshes"
_AREA = 1e-8  # pytorch3d adds this to twice the area of every face; part of the formula, not of its rounding


def barycentric(corners_F33: Tensor, face_ids_NHW: Tensor) -> Tensor:
    """Coordinates [N,H,W,3] of each pixel centre in its face, -1 for background, differentiable.

    pytorch3d's formula without perspective correction and without clipping. Column 0 is at x = +1, row 0 at y = +1.

    Args:
        corners_F33: corners of every face in pytorch3d's screen space; its type is that of the result.
        face_ids_NHW: int64 into F, -1 for background.
    """
    rows, columns = face_ids_NHW.shape[1:]
    like = corners_F33.detach()
    y_H1 = _centres(rows, like)[:, None]
    x_1W = _centres(columns, like)[None]
    hit = face_ids_NHW >= 0
    v0, v1, v2 = corners_F33[face_ids_NHW.clamp(min=0)][..., :2].unbind(dim=-2)
    pixel = (x_1W, y_H1)
    area = _edge((v2[..., 0], v2[..., 1]), v0, v1) + _AREA
    found = torch.stack([_edge(pixel, v1, v2), _edge(pixel, v2, v0), _edge(pixel, v0, v1)], dim=-1) / area[..., None]
    return torch.where(hit[..., None], found, -torch.ones_like(found))


def _centres(count: int, like: Tensor) -> Tensor:
    return 1 - (2 * torch.arange(count, device=like.device, dtype=like.dtype) + 1) / count


def _edge(point: tuple[Tensor, Tensor], a: Tensor, b: Tensor) -> Tensor:
    """Twice the signed area of (point, a, b)."""
    return (point[0] - a[..., 0]) * (b[..., 1] - a[..., 1]) - (point[1] - a[..., 1]) * (b[..., 0] - a[..., 0])


@contextmanager
def float64_raster(face_ids_NHW: Tensor | None = None, *, given: bool = False) -> Iterator[None]:
    """While inside, pytorch3d and the recorded raster give coordinates in the precision of the mesh.

    Args:
        face_ids_NHW: faces for a stage that searches for them, counted from 0 in each mesh; by default pytorch3d's own
            float32 search finds them.
        given: a recorded raster yields its recorded coordinates, which are an input of the stage; otherwise they belong
            to a mesh inside the stage and are computed from it for the recorded faces.
    """
    module = sys.modules[_PYTORCH3D]
    search = module._RasterizeFaceVerts.apply

    class Search:
        """In place of pytorch3d's autograd function."""

        @staticmethod
        def apply(face_verts: Tensor, *settings: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            if face_ids_NHW is not None:
                offset_N11 = torch.arange(len(face_ids_NHW))[:, None, None] * (len(face_verts) // len(face_ids_NHW))
                ids = torch.where(face_ids_NHW < 0, face_ids_NHW, face_ids_NHW + offset_N11)
            else:
                with torch._C.DisableTorchFunction(), torch.no_grad():
                    ids = search(face_verts.detach().to(torch.float32), *settings)[0][..., 0]
            found = barycentric(face_verts, ids)[..., None, :]
            nothing = torch.zeros_like(found[..., 0]).detach()
            return ids[..., None].clone(), nothing, found, nothing

    class Recorded:
        """In place of the recorded raster's autograd function."""

        @staticmethod
        def apply(corners_F33: Tensor, face_ids: Tensor, recorded: Tensor) -> Tensor:
            return recorded.clone() if given else barycentric(corners_F33, face_ids)

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(module, "_RasterizeFaceVerts", Search))
        stack.enter_context(mock.patch.object(recorded_raster, "_Recorded", Recorded))
        yield
