"""The three trained networks: detail encoder, displacement generator, conditional discriminator (detail spec 2).

Axes: B images, H W rows and columns, U = 27 action-unit nodes, C = 512 channels, S = 256 texels, h w = H/8, W/8.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modern.action_units import CHANNELS, NODES, SUBUNITS

DETAIL = 128
LATENT = 3 + 50 + DETAIL  # jaw, expression, detail code
_CONDITION = NODES + SUBUNITS
_SLOPE = 0.2
_ENCODER_SIZE = 256
_ENCODER_CHANNELS = (3, 64, 128, 256, 512, 1024, 512, 256, DETAIL)
_GENERATOR_CHANNELS = (LATENT + _CONDITION, 256, 512, 256, 128, 64, 32, 16, 8)
_JUDGE_CHANNELS = (6, 64, 128, 256, 512, 1)
_JUDGE_STRIDES = (2, 2, 2, 1, 1)


def _leaky(features: Tensor) -> Tensor:
    """In place: neither a convolution nor a normalisation needs its output for the gradient."""
    return F.leaky_relu(features, _SLOPE, inplace=True)


class DetailEncoder(nn.Module):
    """`E_detail`: eight strided convolutions down to one code per image."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 3, stride=2, padding=1) for inputs, outputs in pairwise(_ENCODER_CHANNELS)
        )

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """Detail code [B,128,1,1] of images of any size; they are resized to 256 x 256."""
        size = (_ENCODER_SIZE, _ENCODER_SIZE)
        features = F.interpolate(image_B3HW, size, mode="bilinear", align_corners=False)
        first, *middle, last = self.convolutions
        features = F.relu(first(features), inplace=True)
        for convolution in middle:
            features = _leaky(F.instance_norm(convolution(features)))
        return _leaky(last(features))


class DisplacementGenerator(nn.Module):
    """`D_detail`: paints the displacement map from jaw, expression, detail code and action units."""

    def __init__(self) -> None:
        super().__init__()
        self.condition = nn.Conv2d(NODES * CHANNELS, _CONDITION, 1)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 3, padding=1) for inputs, outputs in pairwise(_GENERATOR_CHANNELS)
        )
        self.paint = nn.Conv2d(_GENERATOR_CHANNELS[-1], 1, 3, padding=1)

    def forward(self, latent_B181: Tensor, afn_BUC: Tensor) -> Tensor:
        """Displacement [B,1,S,S] in (-1,1), not scaled to metres, as in the original.

        Args:
            latent_B181: [B,181,1,1] jaw 3, expression 50, detail code 128.
            afn_BUC: action-unit features.
        """
        features = torch.cat([latent_B181, self.conditioning(afn_BUC)], dim=1)
        for convolution in self.convolutions:
            features = convolution(F.interpolate(features, scale_factor=2, mode="nearest"))
            features = _leaky(F.instance_norm(features))
        return torch.tanh(self.paint(features))

    def conditioning(self, afn_BUC: Tensor) -> Tensor:
        """What the generator reads of the action units [B,41,1,1]."""
        return self.condition(afn_BUC.flatten(1)[..., None, None])


class PatchDiscriminator(nn.Module):
    """`D`: judges patches of a picture, given action-unit features as three more channels."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
            for (inputs, outputs), stride in zip(pairwise(_JUDGE_CHANNELS), _JUDGE_STRIDES, strict=True)
        )

    def forward(self, image_B3HW: Tensor, condition_B3HW: Tensor) -> Tensor:
        """Probability [B,1,h,w] that each patch is a photograph; `condition_B3HW` comes from `condition_map`."""
        return torch.sigmoid(self.logits(image_B3HW, condition_B3HW))

    def logits(self, image_B3HW: Tensor, condition_B3HW: Tensor) -> Tensor:
        """The same before the sigmoid."""
        first, *middle, last = self.convolutions
        features = _leaky(first(torch.cat([image_B3HW, condition_B3HW], dim=1)))
        for convolution in middle:
            features = _leaky(F.instance_norm(convolution(features)))
        return last(features)


def condition_map(afn_BUC: Tensor, size: int) -> Tensor:
    """Action-unit features as an image [B,3,size,size]: nine nodes per channel, stretched (detail spec 2.3).

    Nodes become rows and features columns, without meaning as a picture; 64 of 512 features get no weight at 224.
    """
    plane_B39C = afn_BUC.reshape(-1, 3, NODES // 3, CHANNELS)
    return F.interpolate(plane_B39C, (size, size), mode="bilinear", align_corners=False)
