"""Which cause makes how much of the variation: shares by quantity, and their mean.

Variation is variance: half the squared distance of two runs that differ by one cause, in the quantity's own units (two
references of different size must not be measured by two scales). A cause's share in a quantity is
its part of the sum over all causes; the overall share is the mean over the quantities in which anything moved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from parity.reproduce.cell import SHIPPED
from parity.reproduce.judge import Judged
from parity.reproduce.run import GENERATORS, SITES
from parity.reproduce.words import RAN

RANKED = ("codes", "uv_z", "loss", "weights")


@dataclass(frozen=True, kw_only=True)
class Share:
    """One cause. share: overall, 0..1. by_quantity: in each quantity. cells: the rows of the matrix it stands for."""

    cause: str
    share: float
    by_quantity: dict[str, float]
    cells: list[str]


def variances(judged: Iterable[Judged]) -> dict[str, dict[str, float]]:
    """Cause -> quantity -> variance: the mean over draws of a random cause, the largest of a setting's values."""
    found: dict[str, dict[str, list[float]]] = {}
    for cell in judged:
        if cell.cause and cell.word in RAN:
            parts = found.setdefault(cell.cause, {})
            for quantity in RANKED:
                parts.setdefault(quantity, []).append(cell.distances.get(quantity, 0.0) ** 2 / 2)
    return {
        cause: {name: (sum(values) / len(values) if cause in DRAWN else max(values)) for name, values in parts.items()}
        for cause, parts in found.items()
    }


DRAWN = frozenset({*SITES, *(f"generator of {name} left unseeded" for name in GENERATORS)})


def shares(judged: Iterable[Judged]) -> list[Share]:
    """All causes that moved anything, the largest share first."""
    cells = list(judged)
    by_cause = variances(cells)
    totals = {name: sum(parts.get(name, 0.0) for parts in by_cause.values()) for name in RANKED}
    live = [name for name, total in totals.items() if total > 0]
    found = []
    for cause, parts in by_cause.items():
        each = {name: parts.get(name, 0.0) / totals[name] for name in live}
        overall = sum(each.values()) / len(live) if live else 0.0
        if overall > 0:
            rows = [cell.id for cell in cells if cell.cause == cause]
            found.append(Share(cause=cause, share=overall, by_quantity=each, cells=rows))
    return sorted(found, key=lambda share: share.share, reverse=True)


def measured_directly(judged: Iterable[Judged]) -> dict[str, float]:
    """Quantity -> variance between runs as shipped, to hold the sum over the single causes against."""
    repeats = [cell for cell in judged if cell.id.startswith(f"{SHIPPED} ") and cell.word in RAN]
    if not repeats:
        return {}
    return {name: sum(cell.distances.get(name, 0.0) ** 2 / 2 for cell in repeats) / len(repeats) for name in RANKED}


def explained(by_cause: Mapping[str, Mapping[str, float]], direct: Mapping[str, float]) -> dict[str, float]:
    """Quantity -> sum of the drawn causes' variances over the one measured directly; 1 where causes simply add up."""
    sums = {name: sum(parts.get(name, 0.0) for cause, parts in by_cause.items() if cause in DRAWN) for name in direct}
    return {name: sums[name] / value for name, value in direct.items() if value > 0}


def leading(found: list[Share], part: float = 0.99) -> list[Share]:
    """The fewest causes that make at least `part` of the variation."""
    total, chosen = 0.0, list[Share]()
    for share in found:
        if total >= part:
            break
        chosen.append(share)
        total += share.share
    return chosen
