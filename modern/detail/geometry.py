"""The head under the displacement map: mesh, camera, picture raster, and everything in texture space.

Nothing here is trained and nothing gets a gradient. Axes: B images, V vertices, F faces, H W picture raster rows and
columns, S = 256 texels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from modern.assets import HeadAssets
from modern.camera import project
from modern.codes import FlameCodes
from modern.flame import Flame, Mesh
from modern.renderer import Raster, Renderer, Surface, in_front, interpolate, rasterize
from modern.texture import FlameTexture


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """The meshes behind a `HeadSurface`.

    Attributes:
        mesh: model space, metres.
        projected: image space.
        surface: what the picture shows of them.
    """

    mesh: Mesh
    projected: Mesh
    surface: Surface


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadSurface:
    """The smooth head, per pixel and per texel.

    Attributes:
        albedo_B3SS: texture map, RGB.
        grid_BHW2: texture coordinates of each pixel; 0, the centre of the map, for background.
        alpha_images_B1HW: 1 where the head is hit.
        uv_vertices_B3SS: position of each texel in model space; 0 outside the islands of the map, as all uv_ maps.
        uv_normals_B3SS: its normal.
        uv_projected_B3SS: position in image space, z + 10.
        uv_projected_normals_B3SS: normal in image space.
        head: the meshes, if there are any.
    """

    albedo_B3SS: Tensor
    grid_BHW2: Tensor
    alpha_images_B1HW: Tensor
    uv_vertices_B3SS: Tensor
    uv_normals_B3SS: Tensor
    uv_projected_B3SS: Tensor
    uv_projected_normals_B3SS: Tensor
    head: Head | None = None


class Geometry(Protocol):
    """Anything that turns codes into a smooth head.

    Attributes:
        uv_face_eye_mask_11SS: face and eyes in texture space, 0..1.
        fixed_displacement_SS: displacement that every head has, metres.
    """

    uv_face_eye_mask_11SS: Tensor
    fixed_displacement_SS: Tensor

    def __call__(self, codes: FlameCodes) -> HeadSurface:
        """The head of each image."""
        ...


class UvMap(nn.Module):
    """Attributes of vertices as maps in texture space.

    Which face each texel shows depends on the topology alone, so it is searched for once.

    Args:
        head: topology and texture coordinates.
        size: rows = columns of the map.
    """

    def __init__(self, head: HeadAssets, size: int) -> None:
        super().__init__()
        uv_U2 = (head.uvcoords * 2 - 1) * torch.tensor([1.0, -1.0])
        corners_1U3 = torch.cat([-uv_U2, torch.ones_like(uv_U2[:, :1])], dim=1)[None]  # pytorch3d: x left, y up
        raster = rasterize(corners_1U3, head.uvfaces, size)
        self.faces: Tensor
        self.face_ids_1SS: Tensor
        self.barycentric_1SS3: Tensor
        self.register_buffer("faces", head.faces, persistent=False)
        self.register_buffer("face_ids_1SS", raster.face_ids_BHW, persistent=False)
        self.register_buffer("barycentric_1SS3", raster.barycentric_BHW3, persistent=False)

    def forward(self, values_BVD: Tensor) -> Tensor:
        """The attributes [B,D,S,S], 0 outside the islands."""
        batch = len(values_BVD)
        raster = Raster(
            face_ids_BHW=self.face_ids_1SS.expand(batch, -1, -1),
            barycentric_BHW3=self.barycentric_1SS3.expand(batch, -1, -1, -1),
        )
        return interpolate(values_BVD[:, self.faces], raster)


class HeadGeometry(nn.Module):
    """FLAME, its texture, the camera and the two rasters.

    Args:
        head: mesh model and texture.
        image_size: rows = columns of the pictures.
    """

    def __init__(self, head: HeadAssets, image_size: int = 224) -> None:
        super().__init__()
        self.flame = Flame(head)
        self.texture = FlameTexture(head)
        self.renderer = Renderer(head, image_size, rescale=False)
        self.uv_map = UvMap(head, head.uv_face_eye_mask.shape[-1])
        self.uv_face_eye_mask_11SS: Tensor
        self.fixed_displacement_SS: Tensor
        self.register_buffer("uv_face_eye_mask_11SS", head.uv_face_eye_mask[None, None], persistent=False)
        self.register_buffer("fixed_displacement_SS", head.fixed_uv_dis, persistent=False)

    @torch.no_grad()
    def forward(self, codes: FlameCodes) -> HeadSurface:
        """The head of each image; one search for visible faces."""
        mesh = self.flame(codes.shape_B100, codes.exp_B50, codes.pose_B6)
        projected = project(mesh, codes.cam_B3)
        raster = self.renderer.rasterize(projected.vertices_BV3)
        surface = self.renderer.surface(mesh.vertices_BV3, projected.vertices_BV3, raster)
        uv_vertices, uv_normals, uv_projected, uv_projected_normals = self.uv_maps(
            mesh.vertices_BV3, surface.normals_BV3, projected.vertices_BV3, surface.projected_normals_BV3
        )
        return HeadSurface(
            albedo_B3SS=self.texture(codes.tex_B50),
            grid_BHW2=surface.grid_BHW2,
            alpha_images_B1HW=surface.alpha_images_B1HW,
            uv_vertices_B3SS=uv_vertices,
            uv_normals_B3SS=uv_normals,
            uv_projected_B3SS=uv_projected,
            uv_projected_normals_B3SS=uv_projected_normals,
            head=Head(mesh=mesh, projected=projected, surface=surface),
        )

    def uv_maps(
        self, vertices_BV3: Tensor, normals_BV3: Tensor, projected_BV3: Tensor, projected_normals_BV3: Tensor
    ) -> tuple[Tensor, ...]:
        """The four maps of `HeadSurface`, each [B,3,S,S]."""
        attributes = (vertices_BV3, normals_BV3, in_front(projected_BV3), projected_normals_BV3)
        return self.uv_map(torch.cat(attributes, dim=2)).split(3, dim=1)
