"""BiViT: texture, expression and light of the centre frame from three frames (coarse spec 3).

The action-unit features of each frame become a token; the tokens attend to each other, then to the clip's global
feature, one single key. Axes: B clips, T frames, S = 1 + T tokens, D = 512 channels, H heads, C = 64 channels per head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modern.clip import FRAMES

_WIDTH, _HEADS, _HEAD_WIDTH, _HIDDEN, _DEPTH = 512, 4, 64, 1024, 6
_INNER = _HEADS * _HEAD_WIDTH
_AU_FEATURES, _GLOBAL_FEATURES, _OUTPUTS = 27 * 512, 2048, 127


class BiViT(nn.Module):
    """The only trained network.

    Args:
        dropout: probability at each of its dropouts: embedding, attention weights, attention output, both of the MLP.
    """

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(1, 1 + FRAMES, _WIDTH))
        self.class_token = nn.Parameter(torch.randn(1, 1, _WIDTH))
        self.context = nn.Linear(_GLOBAL_FEATURES, _WIDTH)
        self.embed = nn.Sequential(nn.LayerNorm(_AU_FEATURES), nn.Linear(_AU_FEATURES, _WIDTH), nn.LayerNorm(_WIDTH))
        self.norm = nn.LayerNorm(_WIDTH)
        self.layers = nn.ModuleList(_Layer(dropout) for _ in range(_DEPTH))
        self.head = nn.Linear(_WIDTH, _OUTPUTS)
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.head.weight)

    def forward(self, afn: Tensor, global_feature: Tensor) -> Tensor:
        """Codes to be split by `modern.codes.SEQUENCE_LAYOUT`.

        Args:
            afn: [B,T,27,512] action-unit features, or [T,27,512] for one clip.
            global_feature: [B,T,2048] features of the frozen encoder, or [T,2048].

        Returns:
            [B,127]; B = 1 for one clip.

        Raises:
            ValueError: if there are not three frames.
        """
        if afn.shape[-3] != FRAMES or global_feature.shape[-2] != FRAMES:
            raise ValueError(f"BiViT reads {FRAMES} frames, got {tuple(afn.shape)} and {tuple(global_feature.shape)}")
        frames_BTD = self.embed(afn.reshape(-1, FRAMES, _AU_FEATURES))
        # The mean over time makes the order of the global features irrelevant (defect D15, kept).
        context_B1D = self.context(global_feature.reshape(-1, FRAMES, _GLOBAL_FEATURES)).mean(dim=1, keepdim=True)
        class_B1D = self.class_token.expand(len(frames_BTD), -1, -1)
        tokens_BSD = self.dropout(torch.cat([class_B1D, frames_BTD], dim=1) + self.position)
        for layer in self.layers:
            tokens_BSD = layer(tokens_BSD, context_B1D)
        return self.head(self.norm(tokens_BSD)[:, 0])


class _Layer(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.self_attention = _SelfAttention(dropout)
        self.cross_attention = _CrossAttention(dropout)
        self.feed_forward = _FeedForward(dropout)

    def forward(self, tokens_BSD: Tensor, context_B1D: Tensor) -> Tensor:
        tokens_BSD = self.self_attention(tokens_BSD) + tokens_BSD
        tokens_BSD = self.cross_attention(tokens_BSD, context_B1D) + tokens_BSD
        return self.feed_forward(tokens_BSD) + tokens_BSD


class _SelfAttention(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(_WIDTH)
        self.qkv = nn.Linear(_WIDTH, 3 * _INNER, bias=False)
        self.out = nn.Linear(_INNER, _WIDTH)
        self.dropout = dropout

    def forward(self, tokens_BSD: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norm(tokens_BSD)).chunk(3, dim=-1)
        mixed = _attend(query, key, value, self.dropout, self.training)
        return F.dropout(self.out(mixed), self.dropout, self.training)


class _CrossAttention(nn.Module):
    """Attention to a single key: its weight is always 1, so `q` and the key half of `kv` never learn (D14, kept)."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(_WIDTH)
        self.q = nn.Linear(_WIDTH, _INNER, bias=False)
        self.kv = nn.Linear(_WIDTH, 2 * _INNER, bias=False)
        self.out = nn.Linear(_INNER, _WIDTH)
        self.dropout = dropout

    def forward(self, tokens_BSD: Tensor, context_B1D: Tensor) -> Tensor:
        query = self.q(self.norm(tokens_BSD))
        key, value = self.kv(self.norm(context_B1D)).chunk(2, dim=-1)
        mixed = _attend(query, key, value, self.dropout, self.training)
        return F.dropout(self.out(mixed), self.dropout, self.training)


class _FeedForward(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(_WIDTH)
        self.expand = nn.Linear(_WIDTH, _HIDDEN)
        self.contract = nn.Linear(_HIDDEN, _WIDTH)
        self.dropout = dropout

    def forward(self, tokens_BSD: Tensor) -> Tensor:
        hidden = F.dropout(F.gelu(self.expand(self.norm(tokens_BSD))), self.dropout, self.training)
        return F.dropout(self.contract(hidden), self.dropout, self.training)


def _attend(query: Tensor, key: Tensor, value: Tensor, dropout: float, training: bool) -> Tensor:
    """Scaled dot-product attention, spelled out: fused kernels draw their dropout differently."""
    query_BHSC, key_BHSC, value_BHSC = (_heads(part) for part in (query, key, value))
    weights = (query_BHSC @ key_BHSC.transpose(-1, -2) * _HEAD_WIDTH**-0.5).softmax(dim=-1)
    mixed_BHSC = F.dropout(weights, dropout, training) @ value_BHSC
    return mixed_BHSC.transpose(1, 2).flatten(2)


def _heads(channels_BSI: Tensor) -> Tensor:
    return channels_BSI.unflatten(-1, (_HEADS, _HEAD_WIDTH)).transpose(1, 2)
