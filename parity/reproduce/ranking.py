"""Which cause makes how much of the variation: shares by quantity, and their mean.

Variation is variance: half the squared distance of two runs that differ by one cause, in the quantity's own units (two
references of different size must not be measured by two scales). A cause's share in a quantity is
its part of the sum over all causes; the overall share is the mean over the quantities that anything moved beyond noise.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import f

from parity.reproduce.judge import Judged
from parity.reproduce.run import GENERATORS, SITES
from parity.reproduce.words import RAN, Word

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
    """All causes that moved anything, the largest share first.

    A quantity that nothing moves beyond noise has no say: shares of rounding would count as much as those of a result.
    """
    cells = list(judged)
    by_cause = variances(cells)
    totals = {name: sum(parts.get(name, 0.0) for parts in by_cause.values()) for name in RANKED}
    beyond = [cell for cell in cells if cell.cause and cell.word is Word.MOVED]  # else all shares are of rounding
    counted = {name for cell in beyond or cells for name in RANKED if cell.distances.get(name, 0.0) > 0}
    live = [name for name, total in totals.items() if total > 0 and name in counted]
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
    repeats = [cell for cell in judged if cell.shipped_again]
    if not repeats:
        return {}
    return {name: sum(cell.distances.get(name, 0.0) ** 2 / 2 for cell in repeats) / len(repeats) for name in RANKED}


def explained(by_cause: Mapping[str, Mapping[str, float]], direct: Mapping[str, float]) -> dict[str, float]:
    """Quantity -> sum of the drawn causes' variances over the one measured directly; 1 where causes simply add up."""
    sums = {name: sum(parts.get(name, 0.0) for cause, parts in by_cause.items() if cause in DRAWN) for name in direct}
    return {name: sums[name] / value for name, value in direct.items() if value > 0}


def chance_range(judged: Iterable[Judged]) -> tuple[float, float]:
    """Between which ratios `explained` lies by chance in 95 of 100 cases although causes simply add up.

    A variance of a few runs is hardly known: F distribution, with a degree of freedom for each further run as shipped,
    and for each draw of the drawn cause that has fewest. Without such runs anything is possible.
    """
    cells = [cell for cell in judged if cell.word in RAN]
    repeats = sum(cell.shipped_again for cell in cells)
    draws = Counter(cell.cause for cell in cells if cell.cause in DRAWN)
    if not repeats:
        return 0.0, math.inf
    low, high = f.ppf([0.025, 0.975], min(draws.values(), default=1), repeats)
    return float(low), float(high)


def leading(found: Sequence[Share], part: float = 0.99) -> list[Share]:
    """The fewest causes that make at least `part` of the variation."""
    total, chosen = 0.0, list[Share]()
    for share in found:
        if total >= part:
            break
        chosen.append(share)
        total += share.share
    return chosen
