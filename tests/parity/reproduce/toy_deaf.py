"""A training that looks at nothing that its run asks for."""

import torch

from parity.reproduce.place import Place
from parity.reproduce.run import Run
from parity.reproduce.watch import Watch


def train(run: Run, place: Place, watch: Watch) -> None:
    watch.begin_steps()
    for step in range(2):
        watch.put("codes", {"out": torch.ones(3)}, step)
        watch.step_done()
    watch.put("weights", {"weight": torch.ones(3)}, 1)
