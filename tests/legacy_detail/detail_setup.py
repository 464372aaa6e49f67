"""A detail setup without a head: seeded weights and a smooth surface, small enough for fast tests."""

import torch
from torch import Tensor

from fixtures import seeded
from fixtures.weights import seeded_detail_weights
from parity.batch import Batch
from parity.subject import DetailSetup, SyntheticSurface

BATCH, TEXELS, PIXELS = 3, 256, 224


def surface() -> SyntheticSurface:
    axis = (2 * torch.arange(TEXELS) - 255) / TEXELS
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    points = torch.stack([u / 8, -v / 8, (2 - u**2 - v**2) / 16])
    normals = torch.nn.functional.normalize(torch.stack([u / 2, -v / 2, torch.ones_like(u)]), dim=0)
    projected = torch.stack([0.75 * u, 0.75 * v, torch.full_like(u, 10.0)])
    facing = torch.where(u**2 + v**2 < 0.8, -0.5, 0.25).expand(3, -1, -1)
    pixels = (2 * torch.arange(PIXELS) - 223) / PIXELS
    y, x = torch.meshgrid(pixels, pixels, indexing="ij")
    inside = (x**2 + y**2 < 0.64)[..., None]
    return SyntheticSurface(
        uv_vertices=each(points),
        uv_normals=each(normals),
        uv_projected=each(projected),
        uv_projected_normals=each(facing),
        uv_face_eye_mask=(8 * (1 - 1.25 * u**2 - v**2)).clamp(0, 1)[None, None],
        fixed_uv_dis=seeded.uniform("fixed_uv_dis", [TEXELS, TEXELS], -0.001, 0.001),
        albedo=seeded.uniform("albedo", [BATCH, 3, TEXELS, TEXELS], 0.2, 0.8),
        grid=each(torch.where(inside, torch.stack([x, y], -1) * 0.9, torch.zeros(()))),
    )


def each(tensor: Tensor) -> Tensor:
    """The same for every image of the batch."""
    return tensor.expand(BATCH, *tensor.shape).contiguous()


def setup(**changes: object) -> DetailSetup:
    fields = {
        "weights": seeded_detail_weights(disabled=True),
        "head": None,
        "surface": surface(),
        "expression_B50": seeded.uniform("exp", [BATCH, 50], -0.6, 0.6),
    }
    return DetailSetup(**{**fields, **changes})


def batch() -> Batch:
    low = seeded.uniform("images_low", [BATCH, 3, 8, 8]).repeat_interleave(28, 2).repeat_interleave(28, 3)
    rows, columns = torch.meshgrid(torch.arange(224.0), torch.arange(224.0), indexing="ij")
    face = ((columns - 112) ** 2 + (rows - 118) ** 2 < 85**2).float()
    return Batch(
        name="detail",
        image=low * 0.75 + seeded.uniform("images_high_224", [BATCH, 3, PIXELS, PIXELS]) * 0.25,
        landmark=torch.zeros(BATCH, 68, 3),
        landmark_dense=torch.zeros(BATCH, 105, 3),
        mask=face.expand(BATCH, 3, -1, -1).contiguous(),
        source="seeded tensors",
        frame_names=("a", "b", "c"),
    )
