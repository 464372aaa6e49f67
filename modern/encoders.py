"""Frozen ResNet-50 networks: FLAME parameters, expression features (coarse spec 2.1, 2.2, 2.4).

Axes: N images, H W rows and columns. Images are RGB in 0..1 without mean/std normalisation.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet50

FEATURES = 2048
_EMOTION_SIZE = 224


class ResNetTrunk(nn.Module):
    """ResNet-50 without its classifier; parameter names as in torchvision."""

    def __init__(self) -> None:
        super().__init__()
        for name, layer in resnet50(weights=None).named_children():
            if name not in ("avgpool", "fc"):
                self.add_module(name, layer)

    def forward(self, image_N3HW: Tensor) -> Tensor:
        """Feature map [N,2048,H/32,W/32]."""
        features = image_N3HW
        for layer in self.children():
            features = layer(features)
        return features


def pooled(features_NCHW: Tensor) -> Tensor:
    """Mean over the feature map -> [N,C]."""
    return F.avg_pool2d(features_NCHW, features_NCHW.shape[-2:]).flatten(1)


class FlameEncoder(nn.Module):
    """DECA's coarse encoder, `E_flame`."""

    def __init__(self, outputs: int = 236) -> None:
        super().__init__()
        self.trunk = ResNetTrunk()
        self.regressor = nn.Sequential(nn.Linear(FEATURES, 1024), nn.ReLU(), nn.Linear(1024, outputs))

    def forward(self, image_N3HW: Tensor) -> tuple[Tensor, Tensor]:
        """FLAME parameters [N,236] and the global feature they are read from [N,2048]."""
        feature_N2048 = pooled(self.trunk(image_N3HW))
        return self.regressor(feature_N2048), feature_N2048


class EmotionNet(nn.Module):
    """Expression features, `expression_net`; its classifier is never read and not kept."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = ResNetTrunk()

    def forward(self, image_N3HW: Tensor) -> Tensor:
        """Features [N,2048] of the image at 224 x 224."""
        size = (_EMOTION_SIZE, _EMOTION_SIZE)
        return pooled(self.trunk(F.interpolate(image_N3HW, size, mode="bilinear", align_corners=False)))
