"""E_flame: one image to the 236 DECA codes."""
import torch.nn as nn

from . import resnet


class ResnetEncoder(nn.Module):
    def __init__(self, outsize, last_op=None):
        super(ResnetEncoder, self).__init__()
        feature_size = 2048
        self.encoder = resnet.load_ResNet50Model()
        self.layers = nn.Sequential(
            nn.Linear(feature_size, 1024),
            nn.ReLU(),
            nn.Linear(1024, outsize),
        )
        self.last_op = last_op

    def forward(self, inputs):
        """inputs [N,3,224,224] RGB in [0,1] -> (parameters [N,outsize], features [N,2048])."""
        features = self.encoder(inputs)
        parameters = self.layers(features)
        if self.last_op:
            parameters = self.last_op(parameters)
        return parameters, features
