"""A tensor seen as rows of equal length, so that one pass tells which slice along each axis carries an error.

A plane has rows of `width` elements (the last one may be shorter). Where `split` says so, each row is one index of the
leading axes and each column one index of the trailing axes: the sums of rows and columns are then those of slices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_NARROW, _TYPICAL, _WIDE = 512, 8192, 1 << 17  # elements; narrower rows cost calls, wider ones memory


@dataclass(frozen=True)
class Slice:
    """The slice `index` along `axis` (of `length`) that carries the largest share, 0..1, of the squared error."""

    axis: int
    index: int
    length: int
    share: float


@dataclass(frozen=True)
class Plane:
    """How `shape` is cut. split: number of leading axes that rows stand for, None if rows cut through an axis."""

    shape: tuple[int, ...]
    width: int
    split: int | None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return -(-math.prod(self.shape) // self.width)

    def slices(self, row_errors: NDArray[np.float64], column_errors: NDArray[np.float64]) -> tuple[Slice, ...]:
        """The slice of largest squared error along each axis of more than one element that the plane resolves.

        Args:
            row_errors: [R] sum of squared errors of each row.
            column_errors: [width] of each column.
        """
        total = float(row_errors.sum())
        if not 0 < total < math.inf:
            return ()
        if self.split is None:
            trailing = self._trailing()
            period = math.prod(trailing)
            groups = [(len(self.shape) - len(trailing), trailing, column_errors.reshape(-1, period).sum(0))]
        else:
            head, tail = self.shape[: self.split], self.shape[self.split :]
            groups = [(0, head, row_errors), (self.split, tail, column_errors)]
        return tuple(found for group in groups for found in _largest(*group, total))

    def _trailing(self) -> tuple[int, ...]:
        """The axes that repeat within a row which cuts through an axis."""
        for axis in range(len(self.shape)):
            if self.width % math.prod(self.shape[axis:]) == 0:
                return self.shape[axis:]
        return ()


def plane_of(shape: tuple[int, ...]) -> Plane:
    """The cut of a non-empty `shape` that resolves most axes with rows of a moderate length."""
    count = math.prod(shape)
    if count <= _WIDE // 2:
        return Plane(shape, max(count, 1), 0)
    widths = {axis: math.prod(shape[axis:]) for axis in range(1, len(shape))}
    fitting = {axis: width for axis, width in widths.items() if _NARROW <= width <= _WIDE}
    if fitting:
        split = min(fitting, key=lambda axis: abs(math.log(fitting[axis] / _TYPICAL)))
        return Plane(shape, fitting[split], split)
    period = max((width for width in widths.values() if width < _NARROW), default=1)
    return Plane(shape, period * (_TYPICAL // period), None)


def _largest(first: int, lengths: tuple[int, ...], errors: NDArray[np.float64], total: float) -> list[Slice]:
    if not lengths:
        return []
    cube, found = errors.reshape(lengths), []
    for axis, length in enumerate(lengths):
        if length > 1:
            profile = cube.sum(axis=tuple(other for other in range(len(lengths)) if other != axis))
            index = int(profile.argmax())
            found.append(Slice(first + axis, index, length, min(float(profile[index]) / total, 1.0)))
    return found
