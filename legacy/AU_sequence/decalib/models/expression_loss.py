"""Emotion network behind the `expression` loss."""
import torch.nn as nn
import torch.nn.functional as F

from . import resnet


class ExpressionLossNet(nn.Module):
    def __init__(self):
        super(ExpressionLossNet, self).__init__()
        self.backbone = resnet.load_ResNet50Model()
        self.linear = nn.Sequential(nn.Linear(2048, 10))  # in the checkpoint, never used here

    def forward(self, inputs):
        """inputs [N,3,H,W] in [0,1] -> emotion features [N,2048]."""
        inputs = F.interpolate(inputs, size=(224, 224), mode='bilinear', align_corners=False)
        return self.backbone(inputs)
