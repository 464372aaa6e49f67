"""The pass in compiled code over CPU tensors: strips of rows in as many threads as torch uses.

The strips are the same whatever the number of threads, and are merged in order: so are the figures. Threads are plain
ones that leave the interpreter's lock, not OpenMP's: nothing is left behind that a forked process could trip over.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from parity.engine import kernel as k
from parity.engine.formats import WORDS, largest_number
from parity.engine.plane import Plane
from parity.engine.tally import Tally

_STRIPS = 32
_WORTH = 19  # 2 to this many elements make a strip of their own worth its preparation
_SAMPLE = 1 << 20  # elements of the reference from which the scale is first guessed
_SLACK = 1e-5  # the kernel's shares are taken in the tensor's own format
Array = NDArray[Any]


def tally_compiled(reference: Tensor, candidate: Tensor, plane: Plane) -> Tally:
    """The tally of two float tensors on the CPU, of one shape and dtype, without a copy of either."""
    sides = _Sides(reference, candidate, plane)
    guess = max(sides.root_mean_square(), float(np.finfo(np.float32).tiny))
    rows, ends = (
        np.zeros((plane.rows, 3)),
        np.linspace(0, plane.rows, min(_STRIPS, plane.rows, 1 + (reference.numel() >> _WORTH)) + 1)
        .astype(int)
        .tolist(),
    )
    threads = torch.get_num_threads()
    strips = [(first, last, guess, rows) for first, last in pairwise(ends)]
    if threads == 1:
        parts = [sides.strip(*strip) for strip in strips]
    else:
        with ThreadPoolExecutor(threads) as pool:
            parts = list(pool.map(lambda strip: sides.strip(*strip), strips))
    found = reduce(Tally.merged, parts)
    found.share = sides.share(found, guess, rows)
    return found


class _Sides:
    """Both tensors as the kernel takes them."""

    def __init__(self, reference: Tensor, candidate: Tensor, plane: Plane) -> None:
        self._dtype, self._plane, self._count = reference.dtype, plane, reference.numel()
        self._word = np.dtype(np.uint16 if reference.dtype is torch.bfloat16 else str(WORDS[reference.dtype])[6:])
        self._shape = np.array(reference.shape, np.int64)
        (self._r, self._strides_r), (self._c, self._strides_c) = (self._memory(t) for t in (reference, candidate))

    def _memory(self, tensor: Tensor) -> tuple[Array, Array]:
        """One-dimensional memory in words, and strides; no strides where it is in logical order."""
        steps = tensor.stride()
        if tensor.is_contiguous():
            steps, span = (), tensor.numel()
        else:
            span = 1 + sum((size - 1) * step for size, step in zip(tensor.shape, steps, strict=True))
        memory = torch.as_strided(tensor, (span,), (1,)).view(WORDS[tensor.dtype])
        return memory.numpy().view(self._word), np.array(steps, np.int64)

    def _room(self) -> Array:
        strided = len(self._strides_r) or len(self._strides_c)
        return np.empty((2, self._plane.width if strided else 0), self._word)

    def root_mean_square(self) -> float:
        """Of about a million evenly spread elements of the reference: a first guess of the scale."""
        step = max(self._count // _SAMPLE, 1)
        width = self._plane.width
        found: float = k.mean_square(self._r, self._shape, self._strides_r, self._count, width, step, self._room())
        return math.sqrt(found)

    def strip(self, first: int, last: int, scale: float, rows: Array) -> Tally:
        """The tally of some rows; their part of `rows` is written."""
        unsigned, number = np.dtype(f"u{self._word.itemsize}"), np.float64 if self._word.itemsize == 8 else np.float32
        scratch = (self._room(), np.empty((2, k.CHUNK), self._word))
        counters = (np.zeros(k.CHUNK, unsigned), np.zeros((k.PLANES + 1, k.LANES), unsigned))
        columns, sums = np.zeros(self._plane.width), np.zeros(5)
        bins, notes = np.zeros(64, np.int64), np.zeros(6, np.uint64)
        histogram = bins[: unsigned.itemsize * 8]
        where = (self._r, self._c, self._shape, self._strides_r, self._strides_c, self._count, first, last)
        k.strip(*where, number(scale / 2), *scratch, *counters, columns, sums, histogram, notes, rows)
        return Tally(
            unequal=bool(notes[k.UNEQUAL]),
            skipped=int(notes[k.SKIPPED]),
            one_sided=int(notes[k.ONE_SIDED]),
            sums=sums,
            histogram=bins,
            largest=largest_number(int(notes[k.TOP_R]), self._dtype),
            far=float(notes[k.FAR]),
            share=0.0,
            columns=columns,
            rows_big=rows[first:last, k.BIG],
            rows_error=rows[first:last, k.ERROR],
        )

    def share(self, found: Tally, guess: float, rows: Array) -> float:
        """Largest |d| / (|r| + scale) with the scale that the whole pass found.

        A row's share at the guessed scale bounds that at the true one from both sides, so that few rows need a second
        look.
        """
        used = self._count - found.skipped
        scale = max(math.sqrt(found.sums[k.S_RR] / used) if used else 0.0, float(np.finfo(np.float64).tiny))
        guessed, ratio = rows[:, k.SHARE] / 2, guess / scale
        at_least = guessed.max() * min(1.0, ratio) * (1 - _SLACK)
        again = np.flatnonzero((guessed * max(1.0, ratio) * (1 + _SLACK) >= at_least) & (rows[:, k.BIG] > 0))
        where = (self._r, self._c, self._shape, self._strides_r, self._strides_c, self._count, self._plane.width)
        return float(k.largest_share(*where, again, scale, self._room())) if len(again) else 0.0
