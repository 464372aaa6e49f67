"""A training whose variation is known: sums of independent normal numbers, one part from each generator."""

import random

import numpy as np
import torch

from parity.reproduce.place import Place
from parity.reproduce.run import Run
from parity.reproduce.watch import Watch

SIZE = 2000
PARTS = {"codes": {"python": 3.0, "numpy": 2.0, "torch": 1.0}, "weights": {"python": 2.0, "torch": 2.0}}


def train(run: Run, place: Place, watch: Watch) -> None:
    drawn = {
        "python": torch.tensor([random.gauss(0, 1) for _ in range(SIZE)]),
        "numpy": torch.from_numpy(np.random.standard_normal(SIZE)).float(),
        "torch": torch.randn(SIZE),
    }
    watch.begin_steps()
    for stage, factors in PARTS.items():
        watch.put(stage, {"out": sum(factor * drawn[name] for name, factor in factors.items())})
    watch.step_done()
