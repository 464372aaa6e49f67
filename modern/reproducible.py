"""One context that makes a run reproducible to a chosen level, says what that costs, and claims no more than it gives.

    with reproducible(seed=0, level="same machine") as recipe:
        loader, sampler = recipe.loader(dataset, batch_size=8, workers=2)
        for epoch in range(3):
            sampler.seek(epoch * sampler.batches_per_epoch)
            for batch in loader: ...

Everything global is put back afterwards: generators, numeric switches, thread count, environment. Levels and their
evidence: docs/reproducible.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.utils.data import DataLoader, Dataset

from modern.data.keyed import keyed_seed
from modern.data.sampler import EpochSampler, Item
from modern.numerics import CUBLAS, numeric_state, restore_numerics, set_numerics
from modern.train.seeding import random_states, restore_random_states, seed_everything, seeded_apart, worker_init

Level = Literal["same process", "same machine", "any threads"]
_REFUSED = {
    "any machine": "processors, drivers and library versions choose other kernels, and dropout streams changed between "
    "PyTorch versions; record the run there and hold the recordings against one another instead",
    "any device": "CPU and CUDA have other random streams and other kernels for one seed",
}


class NotReproducible(ValueError):
    """The level cannot be promised here; the message says why and what to do."""


@dataclass(frozen=True)
class Promise:
    """What a level says, and what it costs."""

    claim: str
    cost: str


LEVELS: dict[Level, Promise] = {
    "same process": Promise(
        "run again inside this process, the block gives the same bytes, with any number of loading workers",
        "deterministic kernels only: some operations are slower, and on CUDA a few have none and raise",
    ),
    "same machine": Promise(
        "run again in a fresh process with these libraries, device and thread count, it gives the same bytes, with any "
        "number of loading workers, and across saving and resuming with `recipe.state()`",
        "as `same process`; Python must be started with PYTHONHASHSEED set",
    ),
    "any threads": Promise(
        "as `same machine`, whatever number of threads the process was given",
        "as `same machine`, and every operation runs on one thread",
    ),
}


@dataclass(frozen=True)
class Recipe:
    """What runs inside `reproducible` may use.

    threads: threads inside an operation. promise: claim and cost of the level.
    """

    seed: int
    level: Level
    threads: int
    promise: Promise

    def loader(
        self, dataset: Dataset[Any], *, batch_size: int = 1, workers: int = 0, collate: Callable[..., Any] | None = None
    ) -> tuple[DataLoader[Any], EpochSampler]:
        """A shuffling loader whose batches depend on seed, epoch and index alone.

        Order, and whatever an item draws from the global generators (augmentation), are keyed: neither the number of
        workers, nor what else drew before, nor where a run resumes changes them. The main process's generators do not
        move.

        Args:
            dataset: map-style, with a length.
            batch_size: an incomplete last batch is dropped.
            workers: loading processes.
            collate: as DataLoader's `collate_fn`.

        Returns:
            The loader and its sampler: `sampler.seek(step)` chooses where the next iteration starts.
        """
        sampler = EpochSampler(len(dataset), batch_size=batch_size, seed=self.seed)  # type: ignore[arg-type]
        loader: DataLoader[Any] = DataLoader(
            KeyedDataset(dataset, self.seed),
            batch_sampler=sampler,
            num_workers=workers,
            collate_fn=collate,
            worker_init_fn=worker_init,
            generator=torch.Generator().manual_seed(self.seed),  # or starting an epoch would draw from the global one
        )
        return loader, sampler

    def state(self) -> dict[str, Any]:
        """The states of the global generators, for a checkpoint; JSON can hold them."""
        return {"seed": self.seed, "level": self.level, "random": random_states()}

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from `state`.

        Raises:
            NotReproducible: it was taken with another seed or level.
        """
        if (state["seed"], state["level"]) != (self.seed, self.level):
            raise NotReproducible(
                f"the state is of seed {state['seed']}, level {state['level']!r}, this block of seed {self.seed}, "
                f"level {self.level!r}; continue with the same ones"
            )
        restore_random_states(state["random"])


class KeyedDataset(Dataset[Any]):
    """Each item of another data set, read with every global generator seeded by (seed, epoch, index).

    The generators are put back afterwards, so a worker, or the main process, notices nothing.
    """

    def __init__(self, dataset: Dataset[Any], seed: int) -> None:
        self._dataset, self._seed = dataset, seed

    def __getitem__(self, item: Item) -> Any:
        with seeded_apart(keyed_seed(self._seed, "item", item.epoch, item.entry)):
            return self._dataset[item.entry]


@contextmanager
def reproducible(seed: int, level: Level = "same machine", *, threads: int | None = None) -> Iterator[Recipe]:
    """Make what runs inside reproducible to `level`; afterwards everything global is as it was.

    Args:
        seed: of every generator.
        level: see `LEVELS`.
        threads: threads inside an operation; None keeps the present number, which is then part of the claim.

    Raises:
        NotReproducible: an unknown level, or one that cannot be promised here.
    """
    _refuse(level, threads)
    count = 1 if level == "any threads" else threads or torch.get_num_threads()
    switches, generators = numeric_state(), random_states()
    try:
        set_numerics(count)
        seed_everything(seed)
        yield Recipe(seed, level, count, LEVELS[level])
    finally:
        restore_numerics(switches)
        restore_random_states(generators)


def _refuse(level: str, threads: int | None) -> None:
    if level in _REFUSED:
        raise NotReproducible(f"level {level!r} cannot be promised: {_REFUSED[level]}")
    if level not in LEVELS:
        raise NotReproducible(f"unknown level {level!r}; known: {', '.join(LEVELS)}")
    if level == "any threads" and threads not in (None, 1):
        raise NotReproducible(f"level 'any threads' runs on one thread, {threads} were asked for; leave threads out")
    if torch.cuda.is_initialized() and CUBLAS not in os.environ:
        raise NotReproducible(f"CUDA was started without {CUBLAS}; set it to :4096:8 before the first use of CUDA")
    if level == "same process":
        return
    if os.environ.get("PYTHONHASHSEED", "random") == "random":
        raise NotReproducible(
            f"level {level!r}: the order of sets of strings changes with each process; "
            "start Python with PYTHONHASHSEED=0, or choose level 'same process'"
        )
    if os.environ.get("OMP_DYNAMIC", "").lower() == "true":
        raise NotReproducible(f"level {level!r}: OMP_DYNAMIC=true lets the number of threads change; unset it")
