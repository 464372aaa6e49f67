"""A model that this repository does not know, and its training; also run under an old torch, hence 3.7 syntax.

As a program: `python outside.py FOLDER [eps]` records two steps into FOLDER with the recorder beside or on PYTHONPATH.
"""

import sys

import torch
from parity_recorder import Recorder
from torch import nn


class Mixer(nn.Module):
    """Tokens mixed twice by the same block: reused modules, an in-place activation, dropout, a tuple and a dict."""

    def __init__(self, eps=1e-5):
        super().__init__()
        self.embed = nn.Conv1d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm1d(8, eps=eps)
        self.act = nn.ReLU(inplace=True)
        self.block = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.2), nn.GELU())
        self.heads = Heads()

    def forward(self, x):
        x = self.act(self.norm(self.embed(x))).transpose(1, 2)
        return self.heads(self.block(self.block(x)).mean(1))


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(8, 2), nn.Linear(8, 2)
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        return self.left(x), {"right": self.right(x).to(torch.bfloat16)}


def batches(count):
    generator = torch.Generator().manual_seed(5)
    return [(torch.rand(4, 3, 6, generator=generator), torch.rand(4, 2, generator=generator)) for _ in range(count)]


def train(model, optimizer, recorder=None, steps=2):
    for image, target in batches(steps):
        left, right = model(image)
        losses = {"left": ((left - target) ** 2).mean(), "right": right["right"].float().abs().mean()}
        if recorder is not None:
            for name, value in losses.items():
                recorder.loss(name, value)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        if recorder is not None and recorder.step():
            break


def build(eps=1e-5):
    model = Mixer(eps)
    return model, torch.optim.Adam(model.parameters(), lr=1e-2)


def record(folder, eps=1e-5, build=build, **options):
    torch.set_num_threads(1)
    with Recorder(folder, seed=0, steps=2, name="outside", **options) as recorder:
        model, optimizer = build(eps)
        recorder.watch(model=model, adam=optimizer)
        train(model, optimizer, recorder)
    return model, optimizer


if __name__ == "__main__":
    record(sys.argv[1], *map(float, sys.argv[2:]))
    print(torch.__version__, sys.version.split()[0])
