"""The global random generators as one value that can be kept and put back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

States = dict[str, Any]


def generator_states() -> States:
    """States of python's, numpy's and torch's global generators, of every CUDA device in use too.

    numpy's is the generator itself, whose state would take long to read: whoever goes on drawing needs `separated`.
    """
    states: States = {
        "python": random.getstate(),
        "numpy": np.random.get_bit_generator(),  # type: ignore[attr-defined]
        "cpu": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def restore_generators(states: States) -> None:
    """Put back what `generator_states` returned."""
    random.setstate(states["python"])
    np.random.set_bit_generator(states["numpy"])  # type: ignore[attr-defined]
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state_all(states["cuda"])


def separated(states: States) -> States:
    """Equal states whose numpy generator is one of its own."""
    generator = type(states["numpy"])()
    generator.state = states["numpy"].state
    return {**states, "numpy": generator}


@contextmanager
def generators_kept() -> Iterator[None]:
    """What happens inside the block leaves the generators as they were."""
    states = generator_states()
    restore_generators(separated(states))
    try:
        yield
    finally:
        restore_generators(states)
