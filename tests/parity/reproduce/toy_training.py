"""A training small enough for a test, with causes that matter and causes that do not.

Python's generator orders the data, torch's makes weights and dropout masks, numpy's is drawn from and never used.
"""

import os
import random

import numpy as np
import torch
from torch import nn

from parity.reproduce.numerics import moved_pixels, prepare
from parity.reproduce.place import Place
from parity.reproduce.run import Run
from parity.reproduce.watch import Watch


def train(run: Run, place: Place, watch: Watch) -> None:
    if run.kind == "compose":
        if run.company != "alone":
            raise RuntimeError("shape '[1, 3]' is invalid for input of size 9")
        watch.put("codes", {"out": torch.ones(3)})
        return
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    prepare(run, [optimizer], [model], [model])
    order = list(range(16))
    random.shuffle(order)
    np.random.rand()
    state, first = place.scratch / "state.pt", 0
    if run.resumed:
        kept = torch.load(state, weights_only=False)
        model.load_state_dict(kept["model"])
        optimizer.load_state_dict(kept["optimizer"])
        order, first = kept["order"], run.stop
        torch.set_rng_state(kept["random"])
    else:
        watch.put("initialisation", dict(model.named_parameters()))
    watch.begin_steps()
    for step in range(first, run.stop if run.stop and not run.resumed else run.steps):
        data = moved_pixels(run, torch.tensor(order[step : step + 8]) / 16)
        watch.put("data", {"image_224": data}, step)
        out = model(data[None])
        loss = (out - 1).square().mean()
        watch.put("codes", {"out": out}, step)
        watch.put("losses", {"all_loss": loss}, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watch.step_done()
    watch.put("weights", dict(model.named_parameters()), run.steps - 1)
    watch.notes["pid"] = os.getpid()
    kept = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({**kept, "order": order, "random": torch.get_rng_state()}, state)
