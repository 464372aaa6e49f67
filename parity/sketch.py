"""What is kept of a value so that it can be recognised elsewhere: a few numbers whatever its size.

The 64 `parts` are a linear sketch (Charikar, Chen and Farach-Colton 2002, "Finding frequent items in data streams";
Johnson-Lindenstrauss): the distance of two sketches estimates the distance of the two values to about a tenth, and
equal values have equal sketches. It reads a value in logical order, whatever its shape and strides. `bag` does not see
order at all: values that are permutations of each other share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PARTS = 64


@dataclass(frozen=True, slots=True)
class Sketch:
    """Of a value with `count` elements.

    norm: L2. roundoff: half the spacing of its dtype at 1, 0 for exact types. constant: all elements are equal.
    bag: order-free hash over the elements. odd: elements that are NaN or infinite; they count as zeros elsewhere.
    """

    count: int
    norm: float
    roundoff: float
    constant: bool
    bag: int
    odd: int
    parts: NDArray[np.float64]

    @property
    def key(self) -> tuple[int, int, bytes]:
        """Equal for equal values."""
        return (self.count, self.odd, self.parts.tobytes())


def sketch(tensor: Tensor) -> Sketch:
    """The sketch of a tensor of any dtype, shape and layout; the tensor is only read."""
    with torch.no_grad():
        x = torch.view_as_real(tensor) if tensor.is_complex() else tensor
        x = x.detach().cpu().reshape(-1).to(torch.float64)
        odd = 0
        if tensor.is_floating_point() or tensor.is_complex():
            finite = torch.isfinite(x)
            odd = x.numel() - int(finite.sum())
            x = torch.where(finite, x, 0.0) if odd else x
        count = x.numel()
        return Sketch(
            count=count,
            norm=float(x.norm()) if count else 0.0,
            roundoff=torch.finfo(tensor.dtype).eps / 2 if tensor.is_floating_point() else 0.0,
            constant=bool(count and (x == x[0]).all()),
            bag=_bag(x),
            odd=odd,
            parts=_parts(x),
        )


def distance(a: Sketch, b: Sketch) -> float:
    """Estimated L2 norm of a - b relative to that of a (absolute where a is zero); infinite for other sizes or NaNs."""
    if (a.count, a.odd) != (b.count, b.odd):
        return float("inf")
    apart = float(np.linalg.norm(a.parts - b.parts))
    return apart / a.norm if a.norm else apart


def _parts(x: Tensor) -> NDArray[np.float64]:
    count = x.numel()
    if count <= PARTS:
        return np.pad(x.numpy().copy(), (0, PARTS - count)) + 0.0  # + 0.0: -0 equals 0
    weighted = x * _weights(count)
    padded = torch.nn.functional.pad(weighted, (0, -count % PARTS))
    return padded.view(-1, PARTS).sum(dim=0).numpy() + 0.0


@lru_cache(maxsize=24)
def _weights(count: int) -> Tensor:
    """[count] of mean 0 and variance 1, all different, so that every exchange of two elements is seen."""
    generator = torch.Generator().manual_seed(count)
    return ((torch.rand(count, generator=generator, dtype=torch.float32) - 0.5) * 12**0.5).to(torch.float64)


def _bag(x: Tensor) -> int:
    """Sum of a mixing hash over the bits of each element, modulo 2^64 (finaliser of MurmurHash3)."""
    bits = (x + 0.0).view(torch.int64)
    for factor in (-49064778989728563, -4265267296055464877):
        bits = (bits ^ (bits >> 33)) * factor
    return int((bits ^ (bits >> 33)).sum()) if x.numel() else 0
