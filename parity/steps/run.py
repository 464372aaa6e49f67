"""One arm run step by step in a subject's own process; an interrupted one goes on from its last checkpoint."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fixtures.atomic import replacing
from parity import worker
from parity.bare import BareLoop
from parity.files import write_atomically
from parity.randomness import seed_everything
from parity.steps.arms import Arm
from parity.steps.curve import Curve, extended, read_curve, started, write_curve
from parity.worker import RunSpec

CHECKPOINT_EVERY = 5
FINISHED, PARTIAL, STATE, PROGRESS = "curve.safetensors", "partial.safetensors", "state.pt", "progress"
_LOSSES = ("losses/", "d_losses/", "g_losses/")


def run_arm(spec: RunSpec, arm: Arm, steps: int, pixels: int, folder: Path) -> Path:
    """Run `steps` steps of `arm` and store their curve in `folder`; returns the curve's file.

    Args:
        spec: pipeline, batch, seed and weights; its `steps` do not matter.
        arm: what to run.
        steps: how many updates.
        pixels: side of the raster where the pipeline rasterises anew in each step.
        folder: of this arm alone.
    """
    finished = folder / FINISHED
    if finished.exists() and read_curve(finished).steps >= steps:
        return finished
    folder.mkdir(parents=True, exist_ok=True)
    subject, batch = worker._subject(arm.subject, spec), arm.batch(worker.batch_of(spec))
    with subject.quick(pixels), subject.bare() as loop:
        seed_everything(spec.seed)
        arm.start(loop)
        curve = _resumed(loop, folder) or started(loop.trained())
        with _codes(loop) as codes:
            for number in range(curve.steps, steps):
                found = loop.step(batch, number)
                losses = {key: value for key, value in found.items() if key.startswith(_LOSSES) and value.ndim == 0}
                curve = extended(curve, losses, codes[0], loop.trained())
                codes.clear()
                write_atomically(folder / PROGRESS, str(number + 1).encode())
                if (number + 1) % CHECKPOINT_EVERY == 0 and number + 1 < steps:
                    _checkpoint(loop, curve, folder)
    write_curve(curve, finished)
    for name in (PARTIAL, STATE):
        (folder / name).unlink(missing_ok=True)
    return finished


def done(folder: Path) -> int:
    """How many steps an arm has made so far, as far as is known from outside its process."""
    path = folder / PROGRESS
    return int(path.read_text()) if path.exists() else 0


@contextmanager
def _codes(loop: BareLoop) -> Iterator[list[Tensor]]:
    """Outputs of the network that yields the trained codes; a forward hook changes nothing (parity/observer.py)."""
    found: list[Tensor] = []

    def note(_: Any, __: Any, output: Tensor) -> None:
        found.append(output.detach())

    handle = loop.coder.register_forward_hook(note)
    try:
        yield found
    finally:
        handle.remove()


def _checkpoint(loop: BareLoop, curve: Curve, folder: Path) -> None:
    """State first, curve second: a state of a later step than the curve's is told by its number and not used."""
    state = {
        "step": curve.steps,
        "trained": {key: value.detach() for key, value in loop.trained().items()},
        "buffers": {name: dict(network.named_buffers()) for name, network in loop.networks.items()},
        "optimizers": {name: optimizer.state_dict() for name, optimizer in loop.optimizers.items()},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": _numpy_state(),
        "python": list(random.getstate()[1]),
    }
    with replacing(folder / STATE) as part:
        torch.save(state, part)
    write_curve(curve, folder / PARTIAL)


def _numpy_state() -> dict[str, Any]:
    """Numpy's generator in types that can be loaded without executing code."""
    state = np.random.get_state(legacy=False)
    key = torch.from_numpy(state["state"]["key"].astype(np.int64))
    return {**state, "state": {"key": key, "pos": int(state["state"]["pos"])}}


def _resumed(loop: BareLoop, folder: Path) -> Curve | None:
    """The curve so far, `loop` being put where it ended; None if there is nothing to go on from."""
    if not (folder / STATE).exists() or not (folder / PARTIAL).exists():
        return None
    state, curve = torch.load(folder / STATE, weights_only=True), read_curve(folder / PARTIAL)
    if state["step"] != curve.steps:
        return None
    with torch.no_grad():
        for key, value in loop.trained().items():
            value.copy_(state["trained"][key])
        for name, network in loop.networks.items():
            for key, buffer in network.named_buffers():
                buffer.copy_(state["buffers"][name][key])
    for name, optimizer in loop.optimizers.items():
        optimizer.load_state_dict(state["optimizers"][name])
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    kept = state["numpy"]
    np.random.set_state({**kept, "state": {**kept["state"], "key": kept["state"]["key"].numpy().astype(np.uint32)}})
    random.setstate((3, tuple(state["python"]), None))
    return curve
