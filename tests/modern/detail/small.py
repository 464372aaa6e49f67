"""Small things to test the detail stage with: drawn surfaces, seeded weights, small pictures."""

import torch
from torch import Tensor, nn

from fixtures import seeded
from modern.action_units import ActionUnitClassifier
from modern.checkpoint import legacy_state, load_legacy_state
from modern.config_detail import DetailConfig
from modern.detail.batch import DetailBatch
from modern.detail.expression import FixedExpression
from modern.detail.geometry import HeadSurface
from modern.detail.model import DetailModel
from modern.detail.step import DetailStep

IMAGES, SIZE, TEXELS = 2, 64, 256


class DrawnGeometry(nn.Module):
    """A bulging sheet, seen from the front; the rim of the picture is background."""

    def __init__(self, images: int = IMAGES, size: int = SIZE) -> None:
        super().__init__()
        axis = (2 * torch.arange(TEXELS) + 1 - TEXELS) / TEXELS
        v, u = torch.meshgrid(axis, axis, indexing="ij")
        pixel = (2 * torch.arange(size) + 1 - size) / size
        y, x = torch.meshgrid(pixel, pixel, indexing="ij")
        inside = (x**2 + y**2 < 0.64)[..., None]
        normal = nn.functional.normalize(torch.stack([u / 2, -v / 2, torch.ones_like(u)]), dim=0)
        facing = torch.where(u**2 + v**2 < 0.81, -0.5, 0.25)

        def each(values: Tensor) -> Tensor:
            return values.expand(images, *values.shape).contiguous()

        self.uv_face_eye_mask_11SS = (8 * (1 - 1.25 * u**2 - v**2)).clamp(0, 1)[None, None]
        self.fixed_displacement_SS = seeded.uniform("fixed_uv_dis", (TEXELS, TEXELS), -0.001, 0.001)
        self.surface = HeadSurface(
            albedo_B3SS=seeded.uniform("albedo", (images, 3, TEXELS, TEXELS), 0.2, 0.8),
            grid_BHW2=each(torch.where(inside, 0.875 * torch.stack([x, y], dim=-1), 0.0)),
            alpha_images_B1HW=each(inside.permute(2, 0, 1).float()),
            uv_vertices_B3SS=each(torch.stack([u / 8, -v / 8, (2 - u**2 - v**2) / 16])),
            uv_normals_B3SS=each(normal),
            uv_projected_B3SS=each(torch.stack([0.75 * u, 0.75 * v, torch.full_like(u, 10)])),
            uv_projected_normals_B3SS=each(facing.expand(3, -1, -1)),
        )

    def forward(self, codes: object) -> HeadSurface:
        return self.surface


def with_seeded_weights(network: nn.Module, name: str) -> nn.Module:
    shapes = {key: (tuple(value.shape), str(value.dtype)[6:]) for key, value in legacy_state(network, name).items()}
    load_legacy_state(network, name, seeded.state_dict(name, shapes))
    return network


def small_model(config: DetailConfig, geometry: DrawnGeometry | None = None) -> DetailModel:
    expression = FixedExpression(seeded.uniform("exp", (IMAGES, 50), -0.6, 0.6))
    model = DetailModel(geometry or DrawnGeometry(), config, expression=expression)
    for name, part in {
        "E_flame": model.encoder,
        "E_detail": model.detail_encoder,
        "AUNet": model.action_units,
        "D_detail": model.generator,
        "D": model.discriminator,
    }.items():
        with_seeded_weights(part, name)
    return model


def small_step(config: DetailConfig | None = None, geometry: DrawnGeometry | None = None) -> DetailStep:
    config = config or DetailConfig()
    classifier = ActionUnitClassifier()
    with_seeded_weights(classifier, "ACG")
    return DetailStep(small_model(config, geometry), config, classifier)


def small_batch(images: int = IMAGES) -> DetailBatch:
    low = (
        seeded.uniform("images_low", (images, 3, 8, 8)).repeat_interleave(SIZE // 8, 2).repeat_interleave(SIZE // 8, 3)
    )
    mask = torch.zeros(images, SIZE, SIZE)
    mask[:, 8:56, 4:60] = 1
    return DetailBatch(image_B3HW=0.75 * low + 0.25 * seeded.uniform("high", (images, 3, SIZE, SIZE)), mask_BHW=mask)
