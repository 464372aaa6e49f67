"""Stage 1: action-unit features. The class AFG is what DECA calls AUNet."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

from ..conf import get_config
from .basic_block import LinearBlock
from .resnet import resnet50

SUB_LIST = [0, 1, 2, 4, 7, 8, 11]  # main classes that have a left and a right sub class


def normalize_digraph(A):
    """D^-1/2 A D^-1/2 with D the row sums of A [B,N,N]."""
    b, n, _ = A.shape
    node_degrees = A.detach().sum(dim=-1)
    degs_inv_sqrt = node_degrees ** -0.5
    norm_degs_matrix = torch.eye(n, device=A.device).view(1, n, n) * degs_inv_sqrt.view(b, n, 1)
    return torch.bmm(torch.bmm(norm_degs_matrix, A), norm_degs_matrix)


class GNN(nn.Module):
    """One graph convolution over the neighbours with the largest similarity."""

    def __init__(self, in_channels, num_classes, neighbor_num=4, metric='dots'):
        super(GNN, self).__init__()
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.neighbor_num = neighbor_num
        self.metric = metric
        self.relu = nn.ReLU()
        self.U = nn.Linear(in_channels, in_channels)
        self.V = nn.Linear(in_channels, in_channels)
        self.bnv = nn.BatchNorm1d(num_classes)
        self.U.weight.data.normal_(0, math.sqrt(2. / in_channels))
        self.V.weight.data.normal_(0, math.sqrt(2. / in_channels))
        self.bnv.weight.data.fill_(1)
        self.bnv.bias.data.zero_()

    def forward(self, x):
        b, n, c = x.shape
        si = x.detach()
        if self.metric != 'dots':
            raise NotImplementedError(self.metric)
        si = torch.einsum('b i j , b j k -> b i k', si, si.transpose(1, 2))
        threshold = si.topk(k=self.neighbor_num, dim=-1, largest=True)[0][:, :, -1].view(b, n, 1)
        adj = (si >= threshold).float()
        A = normalize_digraph(adj)
        aggregate = torch.einsum('b i j, b j k->b i k', A, self.V(x))
        return self.relu(x + self.bnv(aggregate + self.U(x)))


class Head(nn.Module):
    def __init__(self, in_channels, num_main_classes=27, num_sub_classes=14, neighbor_num=4, metric='dots'):
        super(Head, self).__init__()
        self.in_channels = in_channels
        self.num_main_classes = num_main_classes
        self.num_sub_classes = num_sub_classes
        self.main_class_linears = nn.ModuleList(
            [LinearBlock(in_channels, in_channels) for _ in range(num_main_classes)])
        self.gnn = GNN(in_channels, num_main_classes, neighbor_num=neighbor_num, metric=metric)
        self.main_sc = nn.Parameter(torch.FloatTensor(torch.zeros(num_main_classes, in_channels)))
        self.sub_sc = nn.Parameter(torch.FloatTensor(torch.zeros(num_sub_classes, in_channels)))
        self.relu = nn.ReLU()
        nn.init.xavier_uniform_(self.main_sc)
        nn.init.xavier_uniform_(self.sub_sc)

    def forward(self, x, use_gnn=True):
        f_u = torch.cat([layer(x).unsqueeze(1) for layer in self.main_class_linears], dim=1)
        f_v = f_u.mean(dim=-2)
        afn = F.normalize(f_v, p=2, dim=-1)  # before the graph: the flag never changes it
        if not use_gnn:
            return afn
        return afn, classify(self.gnn(f_v), self.main_sc, self.sub_sc, self.relu)


def classify(f_v, main_sc, sub_sc, relu):
    """Cosine of every node to its class prototypes: [B,27,C] -> [B,41]."""
    b, n, c = f_v.shape
    f_v = F.normalize(f_v, p=2, dim=-1)
    main_sc = F.normalize(relu(main_sc), p=2, dim=-1)
    main_cl = (f_v * main_sc.view(1, n, c)).sum(dim=-1)
    sub_cl = []
    for j, index in enumerate(SUB_LIST):
        node = f_v[:, index]
        left = F.normalize(relu(sub_sc[2 * j]), p=2, dim=-1)
        right = F.normalize(relu(sub_sc[2 * j + 1]), p=2, dim=-1)
        sub_cl.append((node * left.view(1, c)).sum(dim=-1)[:, None])
        sub_cl.append((node * right.view(1, c)).sum(dim=-1)[:, None])
    return torch.cat([main_cl] + sub_cl, dim=-1)


class AFG(nn.Module):
    def __init__(self, num_main_classes=27, num_sub_classes=14, backbone='resnet50', neighbor_num=4, metric='dots'):
        super(AFG, self).__init__()
        conf = get_config()
        if 'resnet50' not in backbone:
            raise Exception('Error: wrong backbone name: ', backbone)
        self.backbone = resnet50(conf.imagenet)
        self.in_channels = 2048
        self.out_channels = self.in_channels // 4
        self.global_linear = LinearBlock(self.in_channels, self.out_channels)
        self.head = Head(self.out_channels, num_main_classes, num_sub_classes, neighbor_num, metric)

    def forward(self, x, use_gnn=True):
        """x [N,3,224,224] RGB in [0,1] -> (tokens [N,49,512], afn [N,27,512], cl [N,41]); without use_gnn no cl."""
        x = self.backbone(x)
        x = self.global_linear(x)
        if use_gnn:
            afn, cl = self.head(x, use_gnn=True)
            return x, afn, cl
        return x, self.head(x, use_gnn=False)
