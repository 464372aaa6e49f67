"""Likeness of two faces by VGGFace2 features (deca_base spec 3 and 9). Axes: N images."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import Bottleneck

from modern.encoders import ResNetTrunk, pooled

_MEAN_BGR = (91.4953, 103.8827, 131.0912)
_BORDER = 10  # pixels of 224
_SIZE = 224


class IdentityNet(nn.Module):
    """ResNet-50 of VGGFace2 (`FRNet`), Caffe style: stride in the first 1x1 convolution, unpadded pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = ResNetTrunk()
        self.trunk.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True)
        for name in ("layer2.0", "layer3.0", "layer4.0"):
            block = self.trunk.get_submodule(name)
            assert isinstance(block, Bottleneck)
            block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)

    def forward(self, image_N3HW: Tensor) -> Tensor:
        """Features [N,2048] of RGB images in 0..1, 224 x 224."""
        return pooled(self.trunk(_prepared(image_N3HW)))


def _prepared(image_N3HW: Tensor) -> Tensor:
    """As the original does it, `2 x - 1` on data of 0..255 included."""
    bgr = image_N3HW.flip(1) * 255.0 - image_N3HW.new_tensor(_MEAN_BGR)[:, None, None]
    inner = slice(_BORDER, _SIZE - _BORDER)
    return F.interpolate(bgr[:, :, inner, inner] * 2 - 1, (_SIZE, _SIZE), mode="bilinear", align_corners=False)


def identity_distance(features_NC: Tensor, reference_NC: Tensor) -> Tensor:
    """Mean of 1 - cosine."""
    return (1 - F.cosine_similarity(features_NC, reference_NC, dim=1)).mean()
