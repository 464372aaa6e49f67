"""Edge features between all pairs of action units (stage 2)."""
import math

import torch.nn as nn

from .basic_block import CrossAttn


class GEM(nn.Module):
    """class_feature [B,N,D,C], global_feature [B,D,C] -> edges [B,N*N,D,C], edge e = N*i + j."""

    def __init__(self, in_channels, num_classes):
        super(GEM, self).__init__()
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.FAM = CrossAttn(in_channels)
        self.ARM = CrossAttn(in_channels)
        self.edge_proj = nn.Linear(in_channels, in_channels)
        self.bn = nn.BatchNorm2d(num_classes * num_classes)
        self.edge_proj.weight.data.normal_(0, math.sqrt(2. / in_channels))
        self.bn.weight.data.fill_(1)
        self.bn.bias.data.zero_()

    def forward(self, class_feature, global_feature):
        B, N, D, C = class_feature.shape
        global_feature = global_feature.repeat(1, N, 1).view(B, N, D, C)
        feat = self.FAM(class_feature, global_feature)
        feat_end = feat.repeat(1, 1, N, 1).view(B, -1, D, C)
        feat_start = feat.repeat(1, N, 1, 1).view(B, -1, D, C)
        feat = self.ARM(feat_start, feat_end)
        return self.bn(self.edge_proj(feat))
