"""The global random generators: seed them all, and digest their states."""

from __future__ import annotations

import hashlib
import pickle
import random

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed python, numpy, torch on the CPU and every CUDA device."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def rng_digests() -> dict[str, str]:
    """A digest of the state of each global generator: `python`, `numpy`, `cpu` and `cuda:N`."""
    cuda = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    names = ("python", "numpy", "cpu", *(f"cuda:{index}" for index in cuda))
    return {name: rng_digest(name) for name in names}


def rng_digest(name: str) -> str:
    """A digest (SHA-256) of the state of one global generator, named as by `rng_digests`."""
    if name == "python":
        return hashlib.sha256(pickle.dumps(random.getstate())).hexdigest()
    if name == "numpy":
        return hashlib.sha256(pickle.dumps(np.random.get_state())).hexdigest()
    if name == "cpu":
        return generator_digest(torch.default_generator)
    return generator_digest(torch.cuda.default_generators[torch.device(name).index])


def generator_digest(generator: torch.Generator) -> str:
    """A digest (SHA-256) of the state of a torch generator."""
    return hashlib.sha256(generator.get_state().numpy().tobytes()).hexdigest()
