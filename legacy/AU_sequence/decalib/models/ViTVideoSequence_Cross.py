"""Transformer over three frames of action-unit features, with cross attention to one global token."""
import torch
import torch.nn as nn


class FlattenNodes(nn.Module):
    """[B,T,N,C] -> [B,T,N*C], node-major."""

    def forward(self, x):
        return x.reshape(x.shape[0], x.shape[1], -1)


def split_heads(t, heads):
    """[B,N,H*D] -> [B,H,N,D]: heads are consecutive groups of channels."""
    b, n, c = t.shape
    return t.view(b, n, heads, c // heads).permute(0, 2, 1, 3)


def merge_heads(t):
    """[B,H,N,D] -> [B,N,H*D]."""
    b, h, n, d = t.shape
    return t.permute(0, 2, 1, 3).reshape(b, n, h * d)


class FeedForward(nn.Module):
    def __init__(self, dim, hidden_dim, dropout=0.):
        super().__init__()
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


class Attention(nn.Module):
    def __init__(self, dim, heads=8, dim_head=64, dropout=0.):
        super().__init__()
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
        dots = torch.matmul(q, k.transpose(-1, -2)) * self.scale
        attn = self.dropout(self.attend(dots))
        return self.to_out(merge_heads(torch.matmul(attn, v)))


class Cross_Attention(nn.Module):
    """Queries from the tokens, key and value from y; both pass the same LayerNorm."""

    def __init__(self, dim, heads=8, dim_head=64, dropout=0.):
        super().__init__()
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
        dots = torch.matmul(q, k.transpose(-1, -2)) * self.scale
        attn = self.dropout(self.attend(dots))
        return self.to_out(merge_heads(torch.matmul(attn, v)))


class Transformer(nn.Module):
    def __init__(self, dim, depth, heads, dim_head, mlp_dim, dropout=0.):
        super().__init__()
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


class ViT(nn.Module):
    def __init__(self, num_classes, frames, dim, depth, heads, mlp_dim, patch_dim=512, pool='cls', channels=1,
                 dim_head=64, dropout=0., emb_dropout=0.):
        super().__init__()
        assert pool in {'cls', 'mean'}, 'pool type must be either cls (cls token) or mean (mean pooling)'
        self.pos_embedding = nn.Parameter(torch.randn(1, 3 + 1, dim))  # three frames, whatever `frames` says
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.FC_glob = nn.Linear(2048, dim)
        self.to_patch_embedding = nn.Sequential(
            FlattenNodes(),
            nn.LayerNorm(patch_dim),
            nn.Linear(patch_dim, dim),
            nn.LayerNorm(dim),
        )
        self.dropout = nn.Dropout(emb_dropout)
        self.transformer = Transformer(dim, depth, heads, dim_head, mlp_dim, dropout)
        self.pool = pool
        self.to_latent = nn.Identity()
        self.mlp_head = nn.Linear(dim, num_classes)
        nn.init.xavier_uniform_(self.mlp_head.weight)

    def forward(self, x, y):
        """x [1,3,27,512], y [1,3,2048] -> [1,num_classes]."""
        x = self.to_patch_embedding(x)
        b, n, _ = x.shape
        y = self.FC_glob(y)
        y = torch.mean(y, dim=1, keepdim=True)
        cls_tokens = self.cls_token.repeat(b, 1, 1)
        x = torch.cat((cls_tokens, x), dim=1)
        x += self.pos_embedding[:, :(n + 1)]
        x = self.dropout(x)
        x = self.transformer(x, y)
        x = x.mean(dim=1) if self.pool == 'mean' else x[:, 0]
        x = self.to_latent(x)
        return self.mlp_head(x)
