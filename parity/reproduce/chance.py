"""Generators seeded, left unseeded, or replaced for one stretch of code without disturbing anybody else's draws."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from parity.randomness import seed_everything
from parity.reproduce.evidence import LEDGER, NOTEBOOK, WatchedData, append, lines
from parity.reproduce.run import Run


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
        for generator, (owner, name) in _SEEDING.items():
            seed = getattr(owner, name)
            chosen = _from_entropy(seed) if generator in run.unseeded else seed
            stack.enter_context(mock.patch.object(owner, name, NOTEBOOK.seeded(LEDGER[generator], chosen)))
        if run.seeds:
            seed_everything(run.seed)
        NOTEBOOK.begin()
        yield


_SEEDING: Mapping[str, tuple[Any, str]] = {
    "python": (random, "seed"),
    "numpy": (np.random, "seed"),
    "torch": (torch, "manual_seed"),
}


def _from_entropy(seed: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *_: seed(entropy())


@contextmanager
def loading(run: Run, owner: Any, file: Path) -> Iterator[None]:
    """While inside, loaders that the module `owner` makes leave their evidence in `file`, and seed nothing if so asked.

    Unseeded, loading processes start as old libraries did: nothing inherited from the main process's seed.
    """
    loader, unseeded = owner.DataLoader, "workers" in run.unseeded

    def watched(data: Any, *args: Any, worker_init_fn: Callable[[int], None] | None = None, **kwargs: Any) -> Any:
        def start(worker: int) -> None:
            append(file, "started")
            if worker_init_fn:
                worker_init_fn(worker)
            for seeding, name in _SEEDING.values() if unseeded else ():
                getattr(seeding, name)(entropy())

        return loader(WatchedData(data, file), *args, worker_init_fn=start, **kwargs)

    if not run.workers:
        yield
        return
    with mock.patch.object(owner, "DataLoader", watched):
        yield
    NOTEBOOK.facts["workers"] = lines(file)


@contextmanager
def torch_aside() -> Iterator[None]:
    """While inside, torch draws from entropy; afterwards its generator stands where it stood before."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(entropy())
        yield


def drawn_aside(function: Callable[..., Tensor], site: str) -> Callable[..., Tensor]:
    """`function` with fresh draws, after which torch's generator stands where the seeded call would have left it."""

    def call(*args: Any, **kwargs: Any) -> Tensor:
        with torch.no_grad():
            seeded = function(*args, **kwargs)
        after = torch.get_rng_state()
        torch.default_generator.manual_seed(entropy())
        result = function(*args, **kwargs)
        torch.set_rng_state(after)
        NOTEBOOK.draw(site, differs=not torch.equal(seeded, result))
        return result

    return call


def fill(module: nn.Module, fresh: nn.Module) -> None:
    """Give `module` the weights of a newly constructed `fresh`."""
    before, after = module.state_dict(), fresh.state_dict()
    NOTEBOOK.draw("initialisation", differs=any(not torch.equal(before[key], after[key]) for key in after))
    module.load_state_dict(after)


class OtherRandom:
    """Stands in for the module `random` where some of its functions are to be unpredictable.

    The real function is called too, so that everybody else's draws stay what they were.
    """

    def __init__(self, sites: Mapping[str, str]) -> None:
        """`sites`: function of `random` -> what it draws."""
        self._sites, self._other = dict(sites), random.SystemRandom()

    def __getattr__(self, name: str) -> Any:
        real = getattr(random, name)
        if name not in self._sites:
            return real
        other = getattr(self._other, name)

        def call(*args: Any) -> Any:
            copies = [list(argument) if isinstance(argument, list) else argument for argument in args]
            seeded, result = real(*copies), other(*args)
            NOTEBOOK.draw(self._sites[name], differs=(seeded, copies) != (result, list(args)))
            return result

        return call


def other_permutation(site: str) -> AbstractContextManager[Any]:
    """While inside, `torch.randperm` is unpredictable; the seeded permutation is drawn as well and thrown away."""
    permute = torch.randperm

    def randperm(count: int, *, generator: torch.Generator | None = None) -> Tensor:
        seeded = permute(count, generator=generator)
        result = permute(count, generator=torch.Generator().manual_seed(entropy()))
        NOTEBOOK.draw(site, differs=not torch.equal(seeded, result))
        return result

    return mock.patch.object(torch, "randperm", randperm)
