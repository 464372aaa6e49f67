"""The pass over tensors that are right or wrong element by element: integers, bools, and bytes of anything else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from parity.engine.formats import stretch
from parity.engine.plane import Plane

_BLOCK = 1 << 20  # elements


@dataclass(frozen=True)
class Count:
    """Unequal elements, the largest difference and where it first is (flat); unequal elements by row and by column."""

    differing: int
    max_abs: float
    worst: int | None
    rows: NDArray[np.float64]
    columns: NDArray[np.float64]


def count_unequal(reference: Tensor, candidate: Tensor, plane: Plane, block: int = _BLOCK) -> Count:
    """Compare two tensors of one shape, dtype and device; differences are taken in float64."""
    count, width = reference.numel(), plane.width
    step = max(block // width, 1) * width
    columns, rows = torch.zeros(width, dtype=torch.float64, device=reference.device), []
    largest, worst = -1.0, None
    for start in range(0, count, step):
        r, c = (stretch(side, start, min(start + step, count)) for side in (reference, candidate))
        unequal = r != c
        differing = torch.nn.functional.pad(unequal, (0, -len(unequal) % width)).view(-1, width).to(torch.float64)
        rows.append(differing.sum(1))
        columns += differing.sum(0)
        size = torch.where(unequal, (c.to(torch.float64) - r.to(torch.float64)).abs(), -1.0)
        if (here := float(size.max())) > largest:
            largest, worst = here, start + int(size.argmax())
    by_row = torch.cat(rows).cpu().numpy()
    return Count(int(by_row.sum()), max(largest, 0.0), worst, by_row, columns.cpu().numpy())
