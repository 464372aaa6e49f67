"""Generators seeded, left unseeded, or replaced for one stretch of code without disturbing anybody else's draws."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar
from unittest import mock

import numpy as np
import torch
from torch import nn

from parity.randomness import seed_everything
from parity.reproduce.run import Run

Result = TypeVar("Result")


def entropy() -> int:
    """32 bits from the operating system."""
    return int.from_bytes(os.urandom(4), "big")


@contextmanager
def generators(run: Run) -> Iterator[None]:
    """Start a run: all global generators seeded, or none; those left unseeded ignore every later seeding too.

    Code under test may seed by itself (AUcGAN does, three times): a generator left unseeded is one for which each such
    call is missing, so it restarts from entropy instead.
    """
    with ExitStack() as stack:
        for owner, name in (_SEEDING[generator] for generator in run.unseeded if generator in _SEEDING):
            stack.enter_context(mock.patch.object(owner, name, _from_entropy(getattr(owner, name))))
        if run.seeds:
            seed_everything(run.seed)
        yield


_SEEDING: Mapping[str, tuple[Any, str]] = {
    "python": (random, "seed"),
    "numpy": (np.random, "seed"),
    "torch": (torch, "manual_seed"),
}


def _from_entropy(seed: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *_: seed(entropy())


def unseeded_worker(worker: int) -> None:
    """Start a loading process as old libraries did: nothing inherited from the main process's seed."""
    for owner, name in _SEEDING.values():
        getattr(owner, name)(entropy())


@contextmanager
def unseeded_workers(trainer: Any) -> Iterator[None]:
    """While inside, loaders that the module `trainer` makes start their processes with `unseeded_worker`."""
    loader = trainer.DataLoader

    def unseeded(*args: Any, **kwargs: Any) -> Any:
        return loader(*args, worker_init_fn=unseeded_worker, **kwargs)

    with mock.patch.object(trainer, "DataLoader", unseeded):
        yield


@contextmanager
def torch_aside() -> Iterator[None]:
    """While inside, torch draws from entropy; afterwards its generator stands where it stood before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(entropy())
        yield


def drawn_aside(function: Callable[..., Result]) -> Callable[..., Result]:
    """`function` with fresh draws, after which torch's generator stands where the seeded call would have left it."""

    def call(*args: Any, **kwargs: Any) -> Result:
        with torch.no_grad():
            function(*args, **kwargs)
        after = torch.get_rng_state()
        torch.manual_seed(entropy())
        result = function(*args, **kwargs)
        torch.set_rng_state(after)
        return result

    return call


def fill(module: nn.Module, fresh: nn.Module) -> None:
    """Give `module` the weights of a newly constructed `fresh`."""
    module.load_state_dict(fresh.state_dict())


class OtherRandom:
    """Stands in for the module `random` where some of its functions are to be unpredictable.

    The real function is called too, so that everybody else's draws stay what they were.
    """

    def __init__(self, unpredictable: Iterable[str]) -> None:
        self._names, self._other = frozenset(unpredictable), random.SystemRandom()

    def __getattr__(self, name: str) -> Any:
        real = getattr(random, name)
        if name not in self._names:
            return real
        other = getattr(self._other, name)

        def call(*args: Any) -> Any:
            real(*(list(argument) if isinstance(argument, list) else argument for argument in args))
            return other(*args)

        return call
