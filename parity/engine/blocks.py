"""The pass as torch operations, block by block on the tensors' device; the CPU takes it for small tensors.

Defines the same figures as `kernel.py`, to which tests hold it. Memory beyond the inputs is that of one block.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from parity.engine.formats import WORDS, ordered, stretch
from parity.engine.plane import Plane
from parity.engine.tally import Tally

_BLOCK = 1 << 22  # elements
_TINY = float(np.finfo(np.float64).tiny)


def tally_blocks(reference: Tensor, candidate: Tensor, plane: Plane, block: int = _BLOCK) -> Tally:
    """The tally of two float tensors of one shape, dtype and device."""
    count = reference.numel()
    step = max(block // plane.width, 1) * plane.width
    parts = [(start, min(start + step, count)) for start in range(0, count, step)]
    scale = _scale(reference, candidate, parts)
    found: Tally | None = None
    for start, stop in parts:
        part = _tally(stretch(reference, start, stop), stretch(candidate, start, stop), plane.width, scale)
        found = found.merged(part) if found else part
    assert found is not None
    return found


def _scale(reference: Tensor, candidate: Tensor, parts: list[tuple[int, int]]) -> float:
    """Root mean square of the reference where both are finite."""
    total, used = 0.0, 0
    for start, stop in parts:
        r, c = stretch(reference, start, stop), stretch(candidate, start, stop)
        fine = torch.isfinite(r) & torch.isfinite(c)
        values = torch.where(fine, r, 0).to(torch.float64)
        total += float(values @ values)
        used += int(fine.sum())
    return math.sqrt(total / used) if used else 0.0


def _tally(r: Tensor, c: Tensor, width: int, scale: float) -> Tally:
    kind = WORDS[r.dtype]
    fine = torch.isfinite(r) & torch.isfinite(c)
    alike = fine | (r == c) | (torch.isnan(r) & torch.isnan(c))
    x, y = (torch.where(fine, side, 0) for side in (r, c))
    bits, far = _bits_and_largest(ordered(x), ordered(y))
    a, b = x.to(torch.float64), y.to(torch.float64)
    d = b - a
    padded = torch.nn.functional.pad(d, (0, -len(d) % width)).view(-1, width)
    error = padded * padded
    share = (d.abs() / (a.abs() + max(scale, _TINY))).nan_to_num(nan=0.0, posinf=0.0)
    return Tally(
        unequal=not torch.equal(r.view(kind), c.view(kind)),
        skipped=int((~fine).sum()),
        one_sided=int((~alike).sum()),
        sums=torch.stack([d.sum(), d @ d, a @ a, b @ b, a @ b]).cpu().numpy(),
        histogram=torch.bincount(bits, minlength=65)[1:].cpu().numpy(),
        largest=float(a.abs().max()),
        far=far,
        share=float(share.max()),
        columns=error.sum(0).cpu().numpy(),
        rows_big=padded.abs().amax(1).cpu().numpy(),
        rows_error=error.sum(1).cpu().numpy(),
    )


def _bits_and_largest(a: Tensor, b: Tensor) -> tuple[Tensor, float]:
    """Bit length of each distance, and the largest distance; float64 words lie up to 2^64 apart, beyond int64."""
    high, low = torch.maximum(a, b), torch.minimum(a, b)
    difference = high - low  # wraps to a negative number where the distance needs the 64th bit
    wrapped = difference < 0
    half = torch.where(wrapped, (difference >> 1) & ((1 << 63) - 1), difference)
    _, exponent = torch.frexp(half.to(torch.float64))
    # float64 rounds long integers up to the next power of two: one bit too many, where the number is below it.
    over = (half < (1 << (exponent - 1).clamp(0, 62).to(torch.int64))) & (half > 0)
    bits = torch.where(half > 0, exponent.to(torch.int64) - over.to(torch.int64), 0) + wrapped.to(torch.int64)
    furthest = (half.to(torch.float64) * torch.where(wrapped, 2.0, 1.0)).max()
    return bits, float(furthest)
