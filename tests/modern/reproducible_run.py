"""A small training run in a process of its own: `python -m tests.modern.reproducible_run '{"level": ..., ...}'`.

Prints a digest of weights, optimizer and generators. Augmentation draws from all three global generators; the network
has dropout, batch statistics, and a convolution whose weight gradient is summed in as many parts as there are threads.
"""

import hashlib
import json
import random
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from modern.reproducible import reproducible

ITEMS, BATCH = 12, 4


class Pictures(Dataset):
    def __len__(self):
        return ITEMS

    def __getitem__(self, index):
        picture = torch.linspace(0, 1, 3 * 48 * 48).reshape(3, 48, 48) + index / ITEMS
        picture = picture.flip(-1) if random.random() < 0.5 else picture
        return picture * float(np.random.uniform(0.8, 1.2)) + 0.1 * torch.randn(3, 48, 48)


def build():
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.2), nn.Conv2d(16, 16, 3, 2))
    return model, torch.optim.Adam(model.parameters(), lr=1e-3)


def train(model, optimizer, loader, sampler, steps, start=0):
    done = start
    while done < steps:
        if sampler is not None:
            sampler.seek(done)
        for picture in loader:
            out = F.interpolate(model(picture), scale_factor=1.7, mode="bilinear", align_corners=False)
            optimizer.zero_grad()
            out.square().mean().backward()
            optimizer.step()
            done += 1
            if done == steps:
                break


def digest(model, optimizer):
    sha = hashlib.sha256()
    states = [value for state in optimizer.state.values() for value in state.values()]
    for value in (*model.state_dict().values(), *states, torch.get_rng_state()):
        sha.update(value.detach().numpy().tobytes())
    sha.update(repr((random.getstate(), np.random.get_state()[1].tolist())).encode())
    return sha.hexdigest()


def run(level="same machine", workers=0, steps=5, context=True, save="", resume="", disturb=False):
    with reproducible(0, level) if context else nullcontext() as recipe:
        model, optimizer = build()
        if context:
            loader, sampler = recipe.loader(Pictures(), batch_size=BATCH, workers=workers)
        else:
            loader, sampler = DataLoader(Pictures(), BATCH, shuffle=True, num_workers=workers, drop_last=True), None
        start = 0
        if resume:
            saved = torch.load(resume, weights_only=False)
            model.load_state_dict(saved["model"]), optimizer.load_state_dict(saved["optimizer"])
            recipe.resume(json.loads(saved["recipe"])) if not disturb else None
            start = saved["step"]
        train(model, optimizer, loader, sampler, steps, start)
        if save:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": steps}
            torch.save(state | {"recipe": json.dumps(recipe.state())}, Path(save))
        return digest(model, optimizer)


if __name__ == "__main__":
    print(run(**json.loads(sys.argv[1])))
