"""The global random generators: seeding them, and taking and restoring their states."""

from __future__ import annotations

import base64
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and PyTorch (CPU and every CUDA device)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.cuda.manual_seed_all(seed)


@contextmanager
def seeded_apart(seed: int) -> Iterator[None]:
    """Inside, the CPU's generators are seeded; afterwards they are as they were. CUDA's are left alone."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def repeat_exactly() -> None:
    """Choose kernels that give the same bits each time, where there are any; PyTorch warns where there are none.

    Needed on the CPU too: gradients of indexed vertices race there with more than one thread. Setting the number of
    threads, even to what it is, keeps MKL from choosing its own anew in each call.
    """
    torch.set_num_threads(torch.get_num_threads())
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)


def worker_init(worker_id: int) -> None:
    """Start a loading process: PyTorch has seeded its generators, and Ctrl-C is the main process's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)


def random_states() -> dict[str, Any]:
    """The states of all global generators, as JSON can hold them."""
    numpy_state = np.random.get_state(legacy=False)
    assert isinstance(numpy_state, dict)
    return {
        "python": random.getstate(),
        "numpy": {**numpy_state, "state": {**numpy_state["state"], "key": numpy_state["state"]["key"].tolist()}},
        "torch": _encode(torch.get_rng_state()),
        "cuda": [_encode(state) for state in torch.cuda.get_rng_state_all()] if torch.cuda.is_available() else [],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Put the generators back into states taken by `random_states`.

    Raises:
        ValueError: if they were taken with another number of CUDA devices.
    """
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if len(states["cuda"]) != devices:
        raise ValueError(
            f"random states of {len(states['cuda'])} CUDA devices, but {devices} are visible; "
            "resume on as many devices as the run was started on"
        )
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    numpy_state = states["numpy"]
    key = np.asarray(numpy_state["state"]["key"], dtype=np.uint32)
    np.random.set_state({**numpy_state, "state": {**numpy_state["state"], "key": key}})
    torch.set_rng_state(_decode(states["torch"]))
    torch.cuda.set_rng_state_all([_decode(state) for state in states["cuda"]])


def _encode(state: Tensor) -> str:
    return base64.b64encode(state.cpu().numpy().tobytes()).decode("ascii")


def _decode(text: str) -> Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
