"""What a process notes down to prove that a switch reached what it switches (negative controls, docs/reproduce.md)."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.utils.data import Dataset

from parity.fingerprint import fingerprint
from parity.randomness import rng_digest, rng_digests

NOTE = "evidence"
LEDGER = {"python": "python", "numpy": "numpy", "torch": "cpu"}  # `run.GENERATORS` -> name in `parity.randomness`
_RACERS = (5023, 3 * 9976, 3)  # vertices, corners of faces, coordinates: so many are added by several threads at once
_REPEATS = 30


class Notebook:
    """Counts of one process: draws by site, those that came out other than seeded, folders listed, and the like.

    There is one of it in a process, as there is one of each global generator.
    """

    def __init__(self) -> None:
        self.made, self.differing, self.facts = Counter[str](), Counter[str](), dict[str, Any]()
        self._known, self._used = dict[str, set[str]](), dict[str, bool]()

    def clear(self) -> None:
        """Begin a run."""
        self.__init__()  # type: ignore[misc]

    def draw(self, site: str, *, differs: bool) -> None:
        """A draw was made; `differs`: it came out other than the seeded one."""
        self.made[site] += 1
        self.differing[site] += differs

    def begin(self) -> None:
        """The run starts with the generators as they are now."""
        self.facts["begin"] = now = rng_digests()
        self._known = {name: {digest} for name, digest in now.items()}
        self._used = dict.fromkeys(now, False)

    def seeded(self, generator: str, seed: Callable[..., Any]) -> Callable[..., Any]:
        """`seed`, which notes whether anybody drew from `generator` since it was last seeded.

        A state that was there before is no draw: code may seed for a while and put the old state back.
        """

        def call(*args: Any, **kwargs: Any) -> Any:
            self._look(generator)
            result = seed(*args, **kwargs)
            if generator in self._known:
                self._known[generator].add(rng_digest(generator))
            return result

        return call

    def _look(self, generator: str) -> None:
        if generator in self._known:
            now = rng_digest(generator)
            self._used[generator] |= now not in self._known[generator]
            self._known[generator].add(now)

    def written(self) -> dict[str, Any]:
        """Everything, as JSON can hold it."""
        for name in self._known:
            self._look(name)
        return {**self.facts, "used": self._used, "made": dict(self.made), "differing": dict(self.differing)}


NOTEBOOK = Notebook()


def probes() -> dict[str, str]:
    """Digests of a few operations on fixed input: where a numeric switch shows at all, one of them differs."""
    left, right = _fixed(384, 1024), _fixed(1024, 512)
    image, kernel = _fixed(4, 64, 28, 28), _fixed(64, 64, 3, 3)
    found = {
        "matrix product": left @ right,
        "convolution": F.conv2d(image, kernel, padding=1),
        "exponential": left.exp(),
        "sum": left.sum() + right.square().sum(),
    }
    return {name: fingerprint(value) for name, value in found.items()}


def _fixed(*shape: int) -> Tensor:
    """Numbers between -1/2 and 1/2 without drawing any, the same in every mode."""
    count = torch.Size(shape).numel()
    return ((torch.arange(count, dtype=torch.float64) * 7919 % 10007) / 10007 - 0.5).float().reshape(shape)


def races() -> tuple[int, int]:
    """How many repeats of an accumulating index_put_ at the mesh's size are not the bytes of the first; of how many."""
    vertices, corners, size = _RACERS
    where, values = (torch.arange(corners) * 7919) % vertices, _fixed(corners, size)
    found = [
        fingerprint(torch.zeros(vertices, size).index_put_((where,), values, accumulate=True)) for _ in range(_REPEATS)
    ]
    return sum(other != found[0] for other in found), _REPEATS


def adam_in_use(optimizers: Iterable[Optimizer]) -> str:
    """The implementation that the first optimizer's settings choose, the library's own choice resolved."""
    from torch.optim.optimizer import _default_to_fused_or_foreach

    group = next(iter(optimizers)).param_groups[0]
    fused, foreach = group.get("fused"), group.get("foreach")
    if fused is None and foreach is None:
        fused, foreach = _default_to_fused_or_foreach(group["params"], group.get("differentiable", False))
    return "fused" if fused else "foreach" if foreach else "single"


def compiled_graphs() -> int:
    """How many graphs the compiler has made in this process."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return int(dynamo.counters["stats"]["unique_graphs"]) if dynamo else 0


class WatchedData(Dataset[Any]):
    """A data set whose loading processes append to `file` that they were started and whether an item drew a number."""

    def __init__(self, data: Any, file: Path) -> None:
        self._data, self._file, self._drew = data, file, False

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: Any) -> Any:
        before = rng_digests()
        item = self._data[index]
        if not self._drew and rng_digests() != before:
            self._drew = True
            append(self._file, "drew")
        return item


def append(file: Path, word: str) -> None:
    """One line, whole even if several processes write at once."""
    with file.open("a") as stream:
        stream.write(f"{word}\n")


def lines(file: Path) -> Mapping[str, int]:
    """Line -> how often."""
    return Counter(file.read_text().split()) if file.exists() else Counter()
