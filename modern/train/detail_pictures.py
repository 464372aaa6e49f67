"""The picture of a detail step: tiles stacked top to bottom, each the size of the photograph."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from modern.clip import Identity
from modern.detail.model import pasted
from modern.detail.step import DetailOutput
from modern.renderer import Harmonics, sh_shading
from modern.train.pictures import stack, tile

_NEGATIVE, _POSITIVE = (0.0, 0.27, 0.69), (0.84, 0.37, 0.0)  # blue and vermilion, told apart by colour-blind eyes


@torch.no_grad()
def detail_picture(sample: Identity, output: DetailOutput) -> NDArray[np.uint8]:
    """The first image of a step.

    From top to bottom: photograph; smooth head and detailed head pasted into it; shading of the smooth and of the
    detailed head; displacement map uv_z (blue inwards, white zero, orange outwards, scaled to its largest value); the
    photograph in texture space where it is seen.

    Args:
        sample: holds the first image.
        output: what the step yielded for its batch.
    """
    image, mask = sample.image_K3HW[:1], sample.mask_KHW[:1, None]
    decoding, surface, size = output.decoding, output.decoding.surface, sample.image_K3HW.shape[-1]
    grid, alpha = surface.grid_BHW2[:1], surface.alpha_images_B1HW[:1]
    light = output.encoding.codes.flame.light_B93[:1]
    smooth = sh_shading(surface.uv_normals_B3SS[:1], light, Harmonics.DECA)

    def seen(map_13SS: Tensor) -> Tensor:
        return F.grid_sample(map_13SS, grid, align_corners=False)

    tiles = (
        image,
        pasted(seen(surface.albedo_B3SS[:1] * smooth), image, mask),
        output.final_image_B3HW[:1],
        seen(smooth) * alpha,
        seen(decoding.uv_shading_B3SS[:1]) * alpha,
        resized(signed_colours(decoding.uv_z_B1SS[:1]), size),
        resized(output.observation.texture_B3SS[:1] * output.observation.visible_B1SS[:1], size),
    )
    return stack([tile(each[0]) for each in tiles])


def resized(map_B3SS: Tensor, size: int) -> Tensor:
    """A map as a tile of `size` rows and columns."""
    return F.interpolate(map_B3SS, (size, size), mode="bilinear", align_corners=False)


def signed_colours(map_B1SS: Tensor) -> Tensor:
    """A signed map as colours [B,3,S,S] in 0..1: white at zero, full colour at its largest magnitude."""
    strength = map_B1SS / map_B1SS.abs().amax().clamp_min(torch.finfo(map_B1SS.dtype).tiny)
    ends = (map_B1SS.new_tensor(colour)[:, None, None] for colour in (_NEGATIVE, _POSITIVE))
    negative, positive = ((1 - end) * part for end, part in zip(ends, (-strength, strength), strict=True))
    return 1 - negative.clamp_min(0) - positive.clamp_min(0)
