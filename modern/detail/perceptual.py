"""The MRF term: patch statistics of VGG19 features (detail spec 4.1). The original disabled it.

Axes: B images, C channels, H W feature map, P = H x W positions of the picture, Q of the target.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import vgg19

from modern.action_units import imagenet_normalised

_LAST = 20
# The original counts activations as layers of their own, so what it calls relu3_2 and relu4_2 are the activations
# after the first convolution of the third and fourth block.
_TAPS = {11: "relu3_2", 20: "relu4_2"}
_STYLE, _CONTENT = ("relu3_2", "relu4_2"), ("relu4_2",)
_BANDWIDTH, _EPS = 0.5, 1e-5


class Vgg19Features(nn.Module):
    """The part of VGG19 that the term reads; frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = vgg19(weights=None).features[: _LAST + 1]
        self.requires_grad_(False)

    def forward(self, image_B3HW: Tensor) -> dict[str, Tensor]:
        """Features [B,C,H,W] by the original's names."""
        features, found = imagenet_normalised(image_B3HW), {}
        for index, layer in enumerate(self.layers):
            features = layer(features)
            if index in _TAPS:
                found[_TAPS[index]] = features.clone()  # the next layer may work in place
        return found


def patch_distance(features_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
    """How far the target's patches are from being found again, each once; summed over the batch.

    Cosines are computed as a convolution: where both pictures are masked the smallest distance is rounding noise, and
    other orders of summation change the loss by 1e-3.
    """
    mean_B1HW = target_BCHW.mean(dim=1, keepdim=True)
    features_BCHW, target_BCHW = (_unit(values - mean_B1HW) for values in (features_BCHW, target_BCHW))
    total = features_BCHW.new_zeros(())
    for features_1CHW, target_1CHW in zip(features_BCHW.split(1), target_BCHW.split(1), strict=True):
        patches_QC11 = target_1CHW[0].flatten(1).T[..., None, None]
        distance_1QHW = (1 - F.conv2d(features_1CHW, patches_QC11)) / 2
        relative = distance_1QHW / (distance_1QHW.amin(dim=1, keepdim=True) + _EPS)
        weight = ((1 - relative) / _BANDWIDTH).exp()
        share_1QHW = weight / weight.sum(dim=1, keepdim=True)
        total = total - share_1QHW.amax(dim=(2, 3)).mean(dim=1).log().sum()
    return total


def _unit(values_BCHW: Tensor) -> Tensor:
    return values_BCHW / torch.linalg.vector_norm(values_BCHW, dim=1, keepdim=True)


def mrf_parts(network: nn.Module, image_B3HW: Tensor, target_B3HW: Tensor) -> tuple[Tensor, Tensor]:
    """Style and content part; no gradient flows to the target."""
    with torch.no_grad():
        target = network(target_B3HW)
    features = network(image_B3HW)
    distance = {name: patch_distance(features[name], target[name]) for name in _STYLE}
    return sum((distance[name] for name in _STYLE), image_B3HW.new_zeros(())), distance[_CONTENT[0]]


def mrf(network: nn.Module, image_B3HW: Tensor, target_B3HW: Tensor) -> Tensor:
    """Style + content: the coarser features count twice."""
    style, content = mrf_parts(network, image_B3HW, target_B3HW)
    return style + content
