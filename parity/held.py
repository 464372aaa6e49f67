"""What a stored row was held against: its drift, its noise floor, and how many times the floor it is."""

from __future__ import annotations

import math
from dataclasses import fields

from parity.comparison import Drift
from parity.noise import Floor
from parity.schema import Row
from parity.verdict import deciding, excess

_SHARED = ({item.name for item in fields(Drift)} & {item.name for item in fields(Row)}) - {"slices"}


def drift_of(row: Row) -> Drift:
    """The figures of a row as they were measured."""
    figures = {name: getattr(row, name) for name in _SHARED}
    index = None if row.worst_index is None else tuple(row.worst_index)
    return Drift(**{**figures, "shape": tuple(row.shape), "worst_index": index})


def floor_of(row: Row) -> Floor | None:
    """The floor that a row was held against, None where there was none."""
    if row.floor is None or row.floor_max_abs is None or row.floor_differing is None:
        return None
    return Floor(row.floor, row.floor_max_abs, row.floor_differing, row.floor_margin)


def over_floor(row: Row) -> float | None:
    """The figure that decided: how many times its floor a row is; None where there is no floor, or no number."""
    floor = floor_of(row)
    return None if floor is None or row.structural else excess(drift_of(row), floor)


def decided(row: Row, c: float) -> tuple[str, float | None, float | None]:
    """The figure that decides a verdict: its name, its value and what was allowed, c times its floor."""
    times_floor, name, found = deciding(drift_of(row), floor_of(row))
    if not found or not 0 < times_floor < math.inf:
        return name, found, row.bound
    return name, found, found * c / times_floor
