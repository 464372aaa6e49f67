"""The comparison engine against `torch.testing.assert_close` and `numpy.testing.assert_allclose`, on large tensors.

`python -m benchmarks.engine` compares float32 tensors that are equal, that differ in a few elements and that all differ
by rounding. The peers only say whether a bound holds (here a loose one, so that none stops early), the engine yields
every figure of `parity.comparison.Drift`. All take turns, so that a busy machine disturbs them alike; medians are
printed, and the bandwidth of reading two arrays: the best of several sums by compiled code in the same turns.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from parity.comparison import compare

_LOOSE = {"rtol": 10.0, "atol": 10.0}
_STRIPS = 32


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--millions", type=int, default=64, help="elements, in units of 2^20")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of engine, sum and torch")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--peers", choices=("both", "torch", "none"), default="both", help="numpy's needs 3 GB")
    parser.add_argument("--json", help="also write every time there")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found = {name: measure(*pair, arguments) for name, pair in tensors(arguments.millions << 20)}
    print(f"{arguments.millions} M float32, {arguments.threads} threads, {torch.backends.cpu.get_cpu_capability()}")
    for name, times in found.items():
        print(f"{name}: {_line(times, arguments.millions << 20)}")
    if arguments.json:
        facts = {"threads": arguments.threads, "machine": platform.processor(), "torch": torch.__version__}
        with open(arguments.json, "w") as file:  # noqa: PTH123
            json.dump({**facts, "seconds": found}, file, indent=1)


def tensors(count: int) -> Any:
    """Name and pair of each case, one after the other so that one pair is held at a time."""
    generator = torch.Generator().manual_seed(0)
    reference = torch.randn(count, generator=generator)
    yield "equal", (reference, reference.clone())
    few = reference.clone()
    few[:: max(count // 100, 1)] += 1e-3
    yield "few differ", (reference, few)
    del few
    step = torch.randint(1, 4, (count,), generator=generator, dtype=torch.int32)
    yield "all differ by rounding", (reference, (reference.view(torch.int32) + step).view(torch.float32))


def measure(reference: Tensor, candidate: Tensor, arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of every turn of every contender; each first warms up on a stretch."""
    contenders: dict[str, Callable[[Tensor, Tensor], object]] = {"two-array sum": _read, "engine": compare}
    if arguments.peers != "none":
        contenders["assert_close"] = lambda r, c: torch.testing.assert_close(c, r, **_LOOSE)
    if arguments.peers == "both":
        contenders["assert_allclose"] = lambda r, c: np.testing.assert_allclose(c.numpy(), r.numpy(), **_LOOSE)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for run in contenders.values():
        run(reference[: 1 << 20], candidate[: 1 << 20])
    for _ in range(arguments.turns):
        for name, run in contenders.items():
            for _ in range(3 if name in ("two-array sum", "engine") else 1):
                start = time.perf_counter()
                run(reference, candidate)
                times[name].append(time.perf_counter() - start)
    return times


def _line(times: dict[str, list[float]], count: int) -> str:
    best, engine = min(times["two-array sum"]), statistics.median(times["engine"])
    fastest = min(times["engine"])
    parts = [
        f"engine {engine * 1e3:.0f} ms (best {fastest * 1e3:.0f})",
        f"reading both {best * 1e3:.0f} ms = {8 * count / best / 1e9:.1f} GB/s",
        f"engine at {best / engine:.2f} of that bandwidth (best {best / fastest:.2f})",
    ]
    for name in ("assert_close", "assert_allclose"):
        if name in times:
            peer = statistics.median(times[name])
            parts.append(f"{name} {peer * 1e3:.0f} ms = {peer / engine:.1f} x engine")
    return "; ".join(parts)


def _read(reference: Tensor, candidate: Tensor) -> float:
    sides, count = (reference.numpy(), candidate.numpy()), reference.numel()
    ends = [count * strip // _STRIPS for strip in range(_STRIPS + 1)]
    parts = [tuple(side[start:stop] for side in sides) for start, stop in pairwise(ends)]
    if torch.get_num_threads() == 1:
        return sum(_sum(*part) for part in parts)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return sum(pool.map(lambda part: _sum(*part), parts))


@njit(nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def _sum(a: Any, b: Any) -> float:
    total = np.float32(0)
    for i in range(len(a)):
        total += a[i] + b[i]
    return float(total)


if __name__ == "__main__":
    main()
