"""Rendering: rasterise once, interpolate, shade with spherical harmonics (coarse spec 5.4).

Axes: B meshes, V vertices, F faces, H W raster rows and columns, D attribute channels, K = 9 light coefficients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, auto

import torch
from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
from pytorch3d.structures import Meshes
from torch import Tensor, nn
from torch.nn import functional as F

from modern.assets import HeadAssets
from modern.mesh import vertex_normals

_DEPTH_SHIFT = 10.0  # moves the projected mesh in front of the viewer
_FACING = -0.05
_SHAPE_FACING = 0.15
_GREY = 180 / 255.0
_LIGHT_DIRECTIONS = ((-1.0, 1, 1), (1, 1, 1), (-1, -1, 1), (1, -1, 1), (0, 0, 1))
_LIGHT_INTENSITY = 1.7


@dataclass(frozen=True, kw_only=True, slots=True)
class Raster:
    """Which face each pixel shows.

    Attributes:
        face_ids_BHW: int64, -1 for background.
        barycentric_BHW3: not perspective corrected; -1 for background.
    """

    face_ids_BHW: Tensor
    barycentric_BHW3: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Surface:
    """Vertex normals and what is interpolated over the raster.

    Attributes:
        raster: which face each pixel shows.
        normals_BV3: of the model-space mesh.
        projected_normals_BV3: of the projected mesh, detached.
        grid_BHW2: texture coordinates in [-1,1]; 0 for background, which thus samples the centre of the map.
        normal_images_B3HW: model-space normals, not re-normalised; 0 for background.
        alpha_images_B1HW: 1 where a face is hit.
        pos_mask_B1HW: 1 where the projected normal faces the viewer.
        face_region_B1HW: share of face and forehead vertices, fractional at their border.
        projected_normal_z_B1HW: depth component of the projected normals.
        coverage_B1HW: sum of the barycentric coordinates, 1 but for rounding on tiny faces; 0 for background.
    """

    raster: Raster
    normals_BV3: Tensor
    projected_normals_BV3: Tensor
    grid_BHW2: Tensor
    normal_images_B3HW: Tensor
    alpha_images_B1HW: Tensor
    pos_mask_B1HW: Tensor
    face_region_B1HW: Tensor
    projected_normal_z_B1HW: Tensor
    coverage_B1HW: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Rendering:
    """A lit picture on black ground.

    Attributes:
        surface: what each pixel shows of the mesh.
        albedo_images_B3HW: unlit.
        shading_images_B3HW: light alone, also behind the head.
        images_B3HW: albedo x shading x alpha.
    """

    surface: Surface
    albedo_images_B3HW: Tensor
    shading_images_B3HW: Tensor
    images_B3HW: Tensor


class Renderer(nn.Module):
    """Draws a head; nothing in it is trained.

    Args:
        head: topology, texture coordinates, face region.
        image_size: rows = columns of the raster.
        rescale: round x as the original's coarse stage does, see `to_rasterizer`; its detail stage does not.
    """

    def __init__(self, head: HeadAssets, image_size: int, *, rescale: bool = True) -> None:
        super().__init__()
        self.image_size, self.rescale = image_size, rescale
        uv_U2 = (head.uvcoords * 2 - 1) * torch.tensor([1.0, -1.0])
        region_V1 = torch.zeros(len(head.v_template), 1)
        region_V1[torch.cat([head.mask_face, head.mask_forehead])] = 1
        self.faces: Tensor
        self.corner_uv1_F33: Tensor
        self.region_V1: Tensor
        self.register_buffer("faces", head.faces, persistent=False)
        self.register_buffer("corner_uv1_F33", F.pad(uv_U2, (0, 1), value=1.0)[head.uvfaces], persistent=False)
        self.register_buffer("region_V1", region_V1, persistent=False)

    def forward(
        self,
        vertices_BV3: Tensor,
        projected_BV3: Tensor,
        albedo_B3SS: Tensor,
        light_BK3: Tensor,
        raster: Raster | None = None,
    ) -> Rendering:
        """Render.

        Args:
            vertices_BV3: model-space mesh; its normals are lit.
            projected_BV3: the mesh in image space (x right, y down, z away), not changed.
            albedo_B3SS: texture map.
            light_BK3: spherical-harmonics light.
            raster: reuse this instead of rasterising `projected_BV3`.
        """
        surface = self.surface(vertices_BV3, projected_BV3, raster or self.rasterize(projected_BV3))
        shading = sh_shading(surface.normal_images_B3HW, light_BK3)
        albedo = F.grid_sample(albedo_B3SS, surface.grid_BHW2, align_corners=False)
        return Rendering(
            surface=surface,
            albedo_images_B3HW=albedo * surface.alpha_images_B1HW,
            shading_images_B3HW=shading,
            images_B3HW=albedo * shading * surface.alpha_images_B1HW,
        )

    def rasterize(self, projected_BV3: Tensor) -> Raster:
        """Nearest face of each pixel; gradients flow through the barycentric coordinates."""
        return rasterize(self.to_rasterizer(projected_BV3), self.faces, self.image_size)

    def to_rasterizer(self, projected_BV3: Tensor) -> Tensor:
        """From image space to pytorch3d's: x left, y up, in front of the viewer.

        The original scales x by columns / rows, also where they are equal: multiplying and dividing rounds some
        coordinates, and pictures are the same to the last bit only with it. Its detail stage asks for no size and so
        does not scale.
        """
        mirrored = in_front(projected_BV3) * projected_BV3.new_tensor([-1.0, -1.0, 1.0])
        if not self.rescale:
            return mirrored
        x, yz = mirrored.split([1, 2], dim=2)
        return torch.cat([x * self.image_size / self.image_size, yz], dim=2)

    def surface(self, vertices_BV3: Tensor, projected_BV3: Tensor, raster: Raster) -> Surface:
        """Vertex normals, and attributes interpolated over the raster. Gradients flow to grid and normals only.

        The channels are laid out as in the original, positions included though nothing reads them: the gradient of
        the barycentric coordinates is a sum over channels, whose last bits depend on their number and order.
        """
        normals = vertex_normals(vertices_BV3, self.faces)
        with torch.no_grad():
            projected_normals = vertex_normals(in_front(projected_BV3), self.faces)
        batch = len(vertices_BV3)
        region = self.region_V1.expand(batch, -1, -1)
        per_vertex = torch.cat([projected_normals, vertices_BV3.detach(), normals, region], dim=2)
        per_corner = torch.cat([self.corner_uv1_F33.expand(batch, -1, -1, -1), per_vertex[:, self.faces]], dim=3)
        uv1, projected_normal, _, normal, region = interpolate(per_corner, raster).split([3, 3, 3, 3, 1], dim=1)
        facing = projected_normal[:, 2:].detach()
        alpha = (raster.face_ids_BHW >= 0).to(vertices_BV3.dtype)[:, None]
        return Surface(
            raster=raster,
            normals_BV3=normals,
            projected_normals_BV3=projected_normals,
            grid_BHW2=uv1[:, :2].permute(0, 2, 3, 1),
            normal_images_B3HW=normal * alpha,
            alpha_images_B1HW=alpha,
            pos_mask_B1HW=(facing < _FACING).to(alpha.dtype),
            face_region_B1HW=region.detach() * alpha,
            projected_normal_z_B1HW=facing,
            coverage_B1HW=uv1[:, 2:].detach(),
        )

    def shape(self, surface: Surface, background_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        """Grey head over pictures, lit by five directional lights: (face region only, whole head), each [B,3,H,W].

        The grey is a colour of the vertices, interpolated like any attribute.
        """
        grey = _GREY * surface.coverage_B1HW * directional_shading(surface.normal_images_B3HW)
        alpha = surface.alpha_images_B1HW
        facing = (surface.projected_normal_z_B1HW < _SHAPE_FACING).to(alpha.dtype)

        def over(mask: Tensor) -> Tensor:
            return grey * mask + background_B3HW * (1 - mask)

        return over(alpha * surface.face_region_B1HW), over(alpha * facing)


def in_front(projected_BV3: Tensor) -> Tensor:
    """The projected mesh where the rasteriser takes it, moved in front of the viewer."""
    return projected_BV3 + projected_BV3.new_tensor([0.0, 0.0, _DEPTH_SHIFT])


def rasterize(vertices_BV3: Tensor, faces_F3: Tensor, size: int) -> Raster:
    """Rasterise with pytorch3d.

    Args:
        vertices_BV3: in the rasteriser's space, see `Renderer.to_rasterizer`.
        faces_F3: vertex ids.
        size: rows = columns.
    """
    batch = len(vertices_BV3)
    packed_BHW1, _, barycentric_BHW13, _ = rasterize_meshes(
        Meshes(verts=vertices_BV3, faces=faces_F3.expand(batch, -1, -1)),
        image_size=size,
        blur_radius=0.0,
        faces_per_pixel=1,
        perspective_correct=False,
    )
    packed_BHW = packed_BHW1[..., 0]
    offset_B11 = len(faces_F3) * torch.arange(batch, device=packed_BHW.device)[:, None, None]
    return Raster(
        face_ids_BHW=torch.where(packed_BHW >= 0, packed_BHW - offset_B11, packed_BHW),
        barycentric_BHW3=barycentric_BHW13[..., 0, :],
    )


def interpolate(corners_BF3D: Tensor, raster: Raster) -> Tensor:
    """Attributes of face corners over the raster -> [B,D,H,W]; 0 for background."""
    batch, faces = corners_BF3D.shape[:2]
    offset_B11 = faces * torch.arange(batch, device=corners_BF3D.device)[:, None, None]
    hit_BHW1 = (raster.face_ids_BHW >= 0)[..., None]
    ids_BHW = torch.where(hit_BHW1[..., 0], raster.face_ids_BHW + offset_B11, 0)
    at_pixel_BHW3D = corners_BF3D.flatten(0, 1)[ids_BHW]
    values_BHWD = (raster.barycentric_BHW3[..., None] * at_pixel_BHW3D).sum(dim=-2)
    return torch.where(hit_BHW1, values_BHWD, 0).permute(0, 3, 1, 2)


class Harmonics(Enum):
    """Order and constants of the nine spherical harmonics, which differ between the two stages.

    SEQUENCE is that of the coarse fork, where the zonal function is 2 (z^2 - x^2 - y^2) instead of
    2 z^2 - x^2 - y^2, as in the original; DECA is that of the original DECA (detail spec 3.4).
    """

    SEQUENCE = auto()
    DECA = auto()


def _sh_constants() -> tuple[float, ...]:
    linear = (2 * math.pi / 3) * math.sqrt(3 / math.pi) / 2
    quadratic = (math.pi / 4) * math.sqrt(15 / math.pi) / 2
    zonal = (math.pi / 4) * math.sqrt(5 / math.pi) / 4
    return (math.pi * math.sqrt(1 / math.pi) / 2, *[linear] * 3, *[quadratic] * 2, zonal, *[quadratic] * 2)


def _deca_constants() -> tuple[float, ...]:
    linear = (2 * math.pi / 3) * math.sqrt(3 / (4 * math.pi))
    quadratic = (math.pi / 4) * 3 * math.sqrt(5 / (12 * math.pi))
    zonal = (math.pi / 4) * (1 / 2) * math.sqrt(5 / (4 * math.pi))
    return (1 / math.sqrt(4 * math.pi), *[linear] * 3, *[quadratic] * 3, quadratic / 2, zonal)


SH_CONSTANTS = _sh_constants()
DECA_CONSTANTS = _deca_constants()


def sh_shading(normal_B3HW: Tensor, light_BK3: Tensor, harmonics: Harmonics = Harmonics.SEQUENCE) -> Tensor:
    """Shading [B,3,H,W] by 9 spherical harmonics.

    Args:
        normal_B3HW: not necessarily of unit length.
        light_BK3: coefficient x RGB.
        harmonics: order and constants of the functions.
    """
    if harmonics is Harmonics.SEQUENCE:
        functions, constants = _sequence_functions(normal_B3HW), SH_CONSTANTS
    else:
        functions, constants = _deca_functions(normal_B3HW), DECA_CONSTANTS
    basis_BKHW = torch.stack(functions, dim=1)
    scaled = basis_BKHW * basis_BKHW.new_tensor(constants)[:, None, None]
    return (light_BK3[..., None, None] * scaled[:, :, None]).sum(dim=1)


# Components are taken anew at each use because that fixes the order in which their gradients add up.
def _sequence_functions(n: Tensor) -> list[Tensor]:
    return [
        torch.ones_like(n[:, 0]),
        n[:, 1],
        n[:, 2],
        n[:, 0],
        n[:, 0] * n[:, 1],
        n[:, 1] * n[:, 2],
        2 * (n[:, 2] ** 2 - n[:, 0] ** 2 - n[:, 1] ** 2),
        n[:, 2] * n[:, 0],
        n[:, 0] ** 2 - n[:, 1] ** 2,
    ]


def _deca_functions(n: Tensor) -> list[Tensor]:
    return [
        torch.ones_like(n[:, 0]),
        n[:, 0],
        n[:, 1],
        n[:, 2],
        n[:, 0] * n[:, 1],
        n[:, 0] * n[:, 2],
        n[:, 1] * n[:, 2],
        n[:, 0] ** 2 - n[:, 1] ** 2,
        3 * n[:, 2] ** 2 - 1,
    ]


def directional_shading(normal_B3HW: Tensor) -> Tensor:
    """Mean over five lights of the clamped cosine times the intensity -> [B,1,H,W]."""
    direction_L3 = F.normalize(normal_B3HW.new_tensor(_LIGHT_DIRECTIONS), dim=1)
    cosine_BLHW = (direction_L3[:, :, None, None] * normal_B3HW[:, None]).sum(dim=2)
    return (cosine_BLHW.clamp(0, 1) * _LIGHT_INTENSITY).mean(dim=1, keepdim=True)
