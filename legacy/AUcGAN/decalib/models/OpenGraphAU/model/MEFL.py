"""Stage 2: action units with multi-dimensional edge features. The trainer calls it ACG."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

from ..conf import get_config
from .ANFL import classify
from .basic_block import LinearBlock
from .graph_edge_model import GEM
from .resnet import resnet50


def create_e_matrix(n):
    """Incidence of edge e = n*i + j: start[e,j] = 1, end[e,i] = 1."""
    end = torch.zeros((n * n, n))
    start = torch.zeros((n * n, n))
    for i in range(n):
        end[i * n:(i + 1) * n, i] = 1
        start[i * n:(i + 1) * n, :] = torch.eye(n)
    return start, end


class GNN(nn.Module):
    """Gated graph layer on nodes [B,N,C] and edges [B,N*N,C]."""

    def __init__(self, in_channels, num_classes, dropout_rate=0.1):
        super(GNN, self).__init__()
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.U = nn.Linear(in_channels, in_channels, bias=False)
        self.V = nn.Linear(in_channels, in_channels, bias=False)
        self.A = nn.Linear(in_channels, in_channels, bias=False)
        self.B = nn.Linear(in_channels, in_channels, bias=False)
        self.E = nn.Linear(in_channels, in_channels, bias=False)
        self.dropout = nn.Dropout(dropout_rate)  # declared, never applied
        self.sigmoid = nn.Sigmoid()
        self.softmax = nn.Softmax(2)
        self.bnv = nn.BatchNorm1d(num_classes)
        self.bne = nn.BatchNorm1d(num_classes * num_classes)
        self.act = nn.ReLU()
        for linear in (self.U, self.V, self.A, self.B, self.E):
            linear.weight.data.normal_(0, math.sqrt(2. / in_channels))
        for bn in (self.bnv, self.bne):
            bn.weight.data.fill_(1)
            bn.bias.data.zero_()

    def forward(self, x, edge, start, end):
        res = x
        Vix = self.A(x)
        Vjx = self.B(x)
        e = self.E(edge)
        edge = edge + self.act(self.bne(
            torch.einsum('ev, bvc -> bec', (end, Vix)) + torch.einsum('ev, bvc -> bec', (start, Vjx)) + e))

        e = self.sigmoid(edge)
        b, _, c = e.shape
        e = e.view(b, self.num_classes, self.num_classes, c)
        e = self.softmax(e)
        e = e.view(b, -1, c)

        Ujx = self.V(x)
        Ujx = torch.einsum('ev, bvc -> bec', (start, Ujx))
        Uix = self.U(x)
        x = Uix + torch.einsum('ve, bec -> bvc', (end.t(), e * Ujx)) / self.num_classes
        x = res + self.act(self.bnv(x))
        return x, edge


class GNNLayers(nn.Module):
    def __init__(self, in_channels, num_classes, layer_num=2):
        super(GNNLayers, self).__init__()
        self.start, self.end = create_e_matrix(num_classes)  # plain attributes, not in the state dict
        self.graph_layers = nn.ModuleList([GNN(in_channels, num_classes) for _ in range(layer_num)])

    def forward(self, x, edge):
        start, end = self.start.to(x.device), self.end.to(x.device)
        for layer in self.graph_layers:
            x, edge = layer(x, edge, start, end)
        return x, edge


class Head(nn.Module):
    def __init__(self, in_channels, num_main_classes=27, num_sub_classes=14):
        super(Head, self).__init__()
        self.in_channels = in_channels
        self.num_main_classes = num_main_classes
        self.num_sub_classes = num_sub_classes
        self.main_class_linears = nn.ModuleList(
            [LinearBlock(in_channels, in_channels) for _ in range(num_main_classes)])
        self.edge_extractor = GEM(in_channels, num_main_classes)
        self.gnn = GNNLayers(in_channels, num_main_classes, 2)
        self.main_sc = nn.Parameter(torch.FloatTensor(torch.zeros(num_main_classes, in_channels)))
        self.sub_sc = nn.Parameter(torch.FloatTensor(torch.zeros(num_sub_classes, in_channels)))
        self.relu = nn.ReLU()
        nn.init.xavier_uniform_(self.main_sc)
        nn.init.xavier_uniform_(self.sub_sc)

    def forward(self, x):
        f_u = torch.cat([layer(x).unsqueeze(1) for layer in self.main_class_linears], dim=1)
        f_v = f_u.mean(dim=-2)
        f_e = self.edge_extractor(f_u, x)
        f_e = f_e.mean(dim=-2)
        f_v, f_e = self.gnn(f_v, f_e)
        cl = classify(f_v, self.main_sc, self.sub_sc, self.relu)
        return cl, F.normalize(f_v, p=2, dim=-1)


class MEFARG(nn.Module):
    def __init__(self, num_main_classes=27, num_sub_classes=14, backbone='resnet50'):
        super(MEFARG, self).__init__()
        conf = get_config()
        if 'resnet50' not in backbone:
            raise Exception('Error: wrong backbone name: ', backbone)
        self.backbone = resnet50(conf.imagenet)
        self.in_channels = 2048
        self.out_channels = self.in_channels // 4
        self.global_linear = LinearBlock(self.in_channels, self.out_channels)
        self.head = Head(self.out_channels, num_main_classes, num_sub_classes)
        # the backbone is left in training mode
        self.global_linear.eval()
        self.head.eval()

    def forward(self, x):
        """x [N,3,224,224] RGB in [0,1] -> (tokens [N,49,512], cl [N,41], nodes [N,27,512])."""
        x = self.backbone(x)
        x = self.global_linear(x)
        cl, nodes = self.head(x)
        return x, cl, nodes
