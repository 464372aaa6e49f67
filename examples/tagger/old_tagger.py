"""The legacy side: a small sequence tagger with torch's fused attention."""

import torch
from torch import nn


class OldBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x):
        h = self.ln1(x)
        h, _ = self.attn(h, h, h, need_weights=False)
        x = x + h
        h = self.fc2(torch.relu(self.fc1(self.ln2(x))))
        return x + h


class OldTagger(nn.Module):
    def __init__(self, words=50, width=16, heads=4, tags=5):
        super().__init__()
        self.emb = nn.Embedding(words, width)
        self.block0, self.block1 = OldBlock(width, heads), OldBlock(width, heads)
        self.out = nn.Linear(width, tags)

    def forward(self, tokens):
        x = self.emb(tokens)
        x = self.block1(self.block0(x))
        return self.out(x)
