"""ResNet-50 without pooling: images to 49 tokens."""
import torch

from ...resnet import Bottleneck, ResNet, copy_parameter_from_resnet


class TokenResNet(ResNet):
    def forward(self, x):
        """x [N,3,224,224] -> tokens [N,49,2048], row-major over the 7x7 cells."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        b, c, h, w = x.shape
        return x.view(b, c, h * w).permute(0, 2, 1)


def imagenet_weights(path):
    return torch.load(path, map_location='cpu')


def resnet50(path):
    model = TokenResNet(Bottleneck, [3, 4, 6, 3])
    copy_parameter_from_resnet(model, imagenet_weights(path))
    return model
