"""Blocks shared by the two stages."""
import math

import torch.nn as nn


class LinearBlock(nn.Module):
    """Linear, BatchNorm over the channels, ReLU on [B,P,C]."""

    def __init__(self, in_features, out_features=None, drop=0.0):
        super(LinearBlock, self).__init__()
        out_features = out_features or in_features
        self.fc = nn.Linear(in_features, out_features)
        self.bn = nn.BatchNorm1d(out_features)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(drop)
        self.fc.weight.data.normal_(0, math.sqrt(2. / out_features))
        self.bn.weight.data.fill_(1)
        self.bn.bias.data.zero_()

    def forward(self, x):
        x = self.drop(x)
        x = self.fc(x).permute(0, 2, 1)
        return self.relu(self.bn(x)).permute(0, 2, 1)


class CrossAttn(nn.Module):
    """softmax(q(y) k(x)^T / sqrt(dim/2)) v(x), one head."""

    def __init__(self, in_channels):
        super(CrossAttn, self).__init__()
        self.in_channels = in_channels
        self.linear_q = nn.Linear(in_channels, in_channels // 2)
        self.linear_k = nn.Linear(in_channels, in_channels // 2)
        self.linear_v = nn.Linear(in_channels, in_channels)
        self.scale = (self.in_channels // 2) ** -0.5
        self.attend = nn.Softmax(dim=-1)
        for linear in (self.linear_q, self.linear_k, self.linear_v):
            linear.weight.data.normal_(0, math.sqrt(2. / linear.out_features))

    def forward(self, y, x):
        query = self.linear_q(y)
        key = self.linear_k(x)
        value = self.linear_v(x)
        dots = query.matmul(key.transpose(-2, -1)) * self.scale
        attn = self.attend(dots)
        return attn.matmul(value)
