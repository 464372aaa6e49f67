"""Alignment of two sequences that is not a guess: only what every best alignment pairs is paired."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Alignment:
    """pairs: (place in the first, place in the second), ascending in both.

    ambiguous: groups of pairs of which one belongs into the alignment, but several would do equally well.
    only_first, only_second: places that no best alignment uses.
    """

    pairs: list[tuple[int, int]]
    ambiguous: list[list[tuple[int, int]]]
    only_first: list[int]
    only_second: list[int]


def align(first: Sequence[Hashable], second: Sequence[Hashable]) -> Alignment:
    """Pair equal entries of two sequences, order kept, as many as possible; refuse where that is not unique.

    A longest common subsequence has one pair of each rank; a pair is certain if no other pair of its rank lies on any
    longest common subsequence.
    """
    codes: dict[Hashable, int] = {}
    a, b = (np.array([codes.setdefault(key, len(codes)) for key in keys], dtype=np.int64) for keys in (first, second))
    ahead, behind = _lengths(a, b), _lengths(a[::-1], b[::-1])[::-1, ::-1]
    total = int(ahead[-1, -1])
    on_best = (a[:, None] == b[None, :]) & (ahead[:-1, :-1] + 1 + behind[1:, 1:] == total)
    ranks: dict[int, list[tuple[int, int]]] = {}
    for i, j in np.argwhere(on_best):
        ranks.setdefault(int(ahead[i, j]), []).append((int(i), int(j)))
    groups = [ranks[rank] for rank in sorted(ranks)]
    return Alignment(
        pairs=[group[0] for group in groups if len(group) == 1],
        ambiguous=[group for group in groups if len(group) > 1],
        only_first=[i for i in range(len(a)) if not on_best[i].any()],
        only_second=[j for j in range(len(b)) if not on_best[:, j].any()],
    )


def _lengths(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[len(a) + 1, len(b) + 1]: length of the longest common subsequence of the first i of a and the first j of b."""
    table = np.zeros((len(a) + 1, len(b) + 1), dtype=np.int32)
    for i, key in enumerate(a):
        best = np.maximum(table[i, 1:], table[i, :-1] + (b == key))
        np.maximum.accumulate(best, out=table[i + 1, 1:])
    return table
