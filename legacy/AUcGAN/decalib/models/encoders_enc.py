"""Encoders: DECA codes from an image (E_flame), a detail code from an image (E_detail), and what was tried beside them."""
import torch
import torch.nn as nn
import torch.nn.functional as F

from . import resnet


class GANEncoder(nn.Module):
    """Not built anywhere; only its name is on record."""

    def __init__(self, *args, **kwargs):
        super(GANEncoder, self).__init__()
        raise NotImplementedError('GANEncoder: only its name is on record')


class Encoder(nn.Module):
    """E_detail: x [B,3,H,W] -> [B,128,1,1]. Always resized to 256 first."""

    def __init__(self):
        super(Encoder, self).__init__()
        self.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(64, 128, kernel_size=3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(128, 256, kernel_size=3, stride=2, padding=1)
        self.conv4 = nn.Conv2d(256, 512, kernel_size=3, stride=2, padding=1)
        self.conv5 = nn.Conv2d(512, 1024, kernel_size=3, stride=2, padding=1)
        self.conv6 = nn.Conv2d(1024, 512, kernel_size=3, stride=2, padding=1)
        self.conv7 = nn.Conv2d(512, 256, kernel_size=3, stride=2, padding=1)
        self.conv8 = nn.Conv2d(256, 128, kernel_size=3, stride=2, padding=1)
        # no norm behind conv1 and conv8
        self.norm2 = nn.InstanceNorm2d(128)
        self.norm3 = nn.InstanceNorm2d(256)
        self.norm4 = nn.InstanceNorm2d(512)
        self.norm5 = nn.InstanceNorm2d(1024)
        self.norm6 = nn.InstanceNorm2d(512)
        self.norm7 = nn.InstanceNorm2d(256)
        self.relu = nn.ReLU()
        self.leaky_relu = nn.LeakyReLU(0.2)

    def forward(self, x):
        x = F.interpolate(x, size=(256, 256), mode='bilinear', align_corners=False)
        x = self.relu(self.conv1(x))
        x = self.leaky_relu(self.norm2(self.conv2(x)))  # 64
        x = self.leaky_relu(self.norm3(self.conv3(x)))  # 32
        x = self.leaky_relu(self.norm4(self.conv4(x)))  # 16
        x = self.leaky_relu(self.norm5(self.conv5(x)))  # 8
        x = self.leaky_relu(self.norm6(self.conv6(x)))  # 4
        x = self.leaky_relu(self.norm7(self.conv7(x)))  # 2
        x = self.leaky_relu(self.conv8(x))  # 1
        return x


class ResnetEncoder(nn.Module):
    """E_flame: inputs [B,3,224,224] RGB in [0,1] -> parameters [B,outsize], nothing else."""

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
        features = self.encoder(inputs)
        parameters = self.layers(features)
        if self.last_op:
            parameters = self.last_op(parameters)
        return parameters


class ResnetEncoder_feat(nn.Module):
    """Not built anywhere; only its name is on record."""

    def __init__(self, *args, **kwargs):
        super(ResnetEncoder_feat, self).__init__()
        raise NotImplementedError('ResnetEncoder_feat: only its name is on record')


class DetailAUTransformer(nn.Module):
    """Not built anywhere; only its name is on record."""

    def __init__(self, *args, **kwargs):
        super(DetailAUTransformer, self).__init__()
        raise NotImplementedError('DetailAUTransformer: only its name is on record')


# ------------------------------------------------------------------------------------------
# TDC: action units looking at one detail token (disabled)
# ------------------------------------------------------------------------------------------
class FeedForward(nn.Module):
    def __init__(self, dim, hidden_dim, dropout=0.):
        super(FeedForward, self).__init__()
        self.net = nn.Sequential(
            nn.LayerNorm(dim),
            nn.Linear(dim, hidden_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, dim),
            nn.Dropout(dropout),
        )

    def forward(self, x):
        return self.net(x)


def split_heads(t, heads):
    """[B,N,heads*D] -> [B,heads,N,D]"""
    b, n, _ = t.shape
    return t.view(b, n, heads, -1).permute(0, 2, 1, 3)


def merge_heads(t):
    """[B,heads,N,D] -> [B,N,heads*D]"""
    b, h, n, d = t.shape
    return t.permute(0, 2, 1, 3).reshape(b, n, h * d)


class Attention(nn.Module):
    def __init__(self, dim, heads=4, dim_head=64, dropout=0.):
        super(Attention, self).__init__()
        inner_dim = dim_head * heads
        self.heads = heads
        self.scale = dim_head ** -0.5
        self.norm = nn.LayerNorm(dim)
        self.attend = nn.Softmax(dim=-1)
        self.dropout = nn.Dropout(dropout)
        self.to_qkv = nn.Linear(dim, inner_dim * 3, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner_dim, dim), nn.Dropout(dropout))

    def forward(self, x):
        x = self.norm(x)
        q, k, v = [split_heads(t, self.heads) for t in self.to_qkv(x).chunk(3, dim=-1)]
        attn = self.dropout(self.attend(torch.matmul(q, k.transpose(-1, -2)) * self.scale))
        return self.to_out(merge_heads(torch.matmul(attn, v)))


class Cross_Attention(nn.Module):
    """Queries from the tokens, key and value from y; both pass the same LayerNorm."""

    def __init__(self, dim, heads=4, dim_head=64, dropout=0.):
        super(Cross_Attention, self).__init__()
        inner_dim = dim_head * heads
        self.heads = heads
        self.scale = dim_head ** -0.5
        self.norm = nn.LayerNorm(dim)
        self.attend = nn.Softmax(dim=-1)
        self.dropout = nn.Dropout(dropout)
        self.to_q = nn.Linear(dim, inner_dim, bias=False)
        self.to_kv = nn.Linear(dim, inner_dim * 2, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner_dim, dim), nn.Dropout(dropout))

    def forward(self, x, y):
        x = self.norm(x)
        y = self.norm(y)
        q = split_heads(self.to_q(x), self.heads)
        k, v = [split_heads(t, self.heads) for t in self.to_kv(y).chunk(2, dim=-1)]
        attn = self.dropout(self.attend(torch.matmul(q, k.transpose(-1, -2)) * self.scale))
        return self.to_out(merge_heads(torch.matmul(attn, v)))


class Transformer(nn.Module):
    def __init__(self, dim, depth, heads, dim_head, mlp_dim, dropout=0.):
        super(Transformer, self).__init__()
        self.norm = nn.LayerNorm(dim)
        self.layers = nn.ModuleList([])
        for _ in range(depth):
            self.layers.append(nn.ModuleList([
                Attention(dim, heads=heads, dim_head=dim_head, dropout=dropout),
                Cross_Attention(dim, heads=heads, dim_head=dim_head, dropout=dropout),
                FeedForward(dim, mlp_dim, dropout=dropout),
            ]))

    def forward(self, x, y):
        for attn, cross_attn, ff in self.layers:
            x = attn(x) + x
            x = cross_attn(x, y) + x
            x = ff(x) + x
        return self.norm(x)


class TDC(nn.Module):
    """x: action units, y: detail -> [B,noutput]. Cannot run: forward unpacks a 2-D shape and then needs a 3-D one."""

    def __init__(self, nfeat, nhid, noutput, dropout, alpha, nheads, batchsize, detail_dim=181, au_dim=41):
        super(TDC, self).__init__()
        self.pos_embedding = nn.Parameter(torch.randn(1, 42, nhid))
        self.cls_token = nn.Parameter(torch.randn(1, 1, nhid))
        self.detail_embedding = nn.Linear(detail_dim, nhid)
        self.au_embedding = nn.Linear(au_dim, nhid)
        self.transformer = Transformer(nhid, 6, nheads, 64, nhid, dropout)
        self.mlp_head = nn.Linear(nhid, noutput)
        nn.init.xavier_uniform_(self.mlp_head.weight, gain=0.01)

    def forward(self, x, y):
        x = self.au_embedding(x)
        y = self.detail_embedding(y)
        b, n = x.shape
        return self.body(x, y, b, n)

    def body(self, x, y, b, n):
        """x [b,n,nhid] embedded action units, y [b,1,nhid] embedded detail."""
        cls_tokens = self.cls_token.expand(b, -1, -1)
        x = torch.cat((cls_tokens, x), dim=1)
        x = x + self.pos_embedding[:, :(n + 1)]
        x = self.transformer(x, y)
        return self.mlp_head(x[:, 0])


class AUEncoder(nn.Module):
    """afn [B,27,512] -> [B,50] (disabled; encoders_au.py has another one)"""

    def __init__(self, outsize=50):
        super(AUEncoder, self).__init__()
        self.fc = nn.Linear(27 * 512, outsize)

    def forward(self, x):
        return self.fc(x.view(x.size(0), -1))
