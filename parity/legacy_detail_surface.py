"""Stand-ins for FLAME, FLAMETex and the renderer of the detail fork, where a recording has no head.

Axes: B images, S = 256 texels, H = W = 224 pixels. The mesh behind the stand-ins is a single triangle.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from parity.subject import SyntheticSurface

_TRIANGLE = "v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nf 1/1 2/2 3/3\n"


class SurfaceFlame(nn.Module):
    """Returns zeros for vertices [B,3,3] and landmarks [B,68,3]: nothing of the surface is read from them."""

    def forward(
        self, shape_params: Tensor, expression_params: Tensor, pose_params: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """FLAME's interface."""
        batch = len(shape_params)
        points = shape_params.new_zeros(batch, 68, 3)
        return shape_params.new_zeros(batch, 3, 3), points, points.clone()


class SurfaceTexture(nn.Module):
    """Returns the surface's albedo whatever the texture code."""

    albedo: Tensor

    def __init__(self, surface: SyntheticSurface) -> None:
        super().__init__()
        self.register_buffer("albedo", surface.albedo.clone())

    def forward(self, texcode: Tensor) -> Tensor:
        """[B,3,S,S]."""
        return self.albedo.clone()


def surface_renderer(renderer: Any, surface: SyntheticSurface, folder: Path) -> Any:
    """Legacy's SRenderY with its own shading and texel mesh, whose rasterisations return the surface's tensors.

    Args:
        renderer: legacy's renderer module.
        surface: what to return.
        folder: where the triangle's file may be written.
    """
    path = folder / "triangle.obj"
    path.write_text(_TRIANGLE)

    class SurfaceRenderer(renderer.SRenderY):
        """`world2uv` returns, in the order of a step's calls, projected points, their normals, points, normals."""

        def __init__(self) -> None:
            super().__init__(surface.grid.shape[1], str(path), uv_size=surface.albedo.shape[-1])
            maps = (surface.uv_projected, surface.uv_projected_normals, surface.uv_vertices, surface.uv_normals)
            for name, value in zip("0123", maps, strict=True):
                self.register_buffer(f"map{name}", value.clone())
            self.register_buffer("grid", surface.grid.clone())
            self.calls = 0

        def forward(self, vertices: Tensor, transformed_vertices: Tensor, *_: Any, **__: Any) -> dict[str, Tensor]:
            """A step begins here: `world2uv` starts over."""
            self.calls = 0
            transformed_vertices[:, :, 2] = transformed_vertices[:, :, 2] + 10
            batch, height, width, _ = self.grid.shape
            return {
                "grid": self.grid.clone(),
                "normals": torch.zeros_like(vertices),
                "images": self.grid.new_zeros(batch, 3, height, width),
                "alpha_images": self.grid.new_zeros(batch, 1, height, width),
            }

        def world2uv(self, vertices: Tensor) -> Tensor:
            """The next of the four maps [B,3,S,S]."""
            found: Tensor = getattr(self, f"map{self.calls % 4}").clone()
            self.calls += 1
            return found

        def render_shape(self, vertices: Tensor, transformed_vertices: Tensor, *_: Any, **__: Any) -> Tensor:
            """A black picture; the mesh moves as it does in legacy."""
            transformed_vertices[:, :, 2] = transformed_vertices[:, :, 2] + 10
            batch, height, width, _ = self.grid.shape
            return self.grid.new_zeros(batch, 3, height, width)

    return SurfaceRenderer()
