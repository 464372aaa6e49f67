"""What many paired errors allow to be said: closer, farther, the same size or the same error.

For each input the same stage runs three times: legacy and modern in float32, and in float64. The pair of an input is
(e_legacy, e_modern), the distances of the two from truth. If neither side is more accurate, the two errors of a pair
are exchangeable, so log(e_modern / e_legacy) is symmetric about zero; that is what Wilcoxon's signed-rank test tests.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata, wilcoxon

from parity.truth.schema import Word

ALPHA = 0.01  # chance that a whole run in which nothing differs says "closer" or "farther" anywhere
MIN_INPUTS = 20


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The word for one quantity; `p` is adjusted for all quantities of a run (Holm), None where nothing was tested."""

    word: Word
    p: float | None
    reason: str


def ratio(modern: float, legacy: float) -> float:
    """R of one input: 1 where the errors are equal (also if both are zero), infinity where only modern errs."""
    if modern == legacy:
        return 1.0
    return modern / legacy if legacy else math.inf


def median_ratio(legacy: Sequence[float], modern: Sequence[float]) -> float:
    """R of a quantity: the median over its inputs."""
    return float(np.median([ratio(m, e) for e, m in zip(legacy, modern, strict=True)]))


def contrast(modern: float, legacy: float) -> float:
    """(e_modern - e_legacy) / (e_modern + e_legacy): ranks like |log R| and stays finite where a side does not err."""
    return (modern - legacy) / (modern + legacy) if modern != legacy else 0.0


def signed_rank(legacy: Sequence[float], modern: Sequence[float]) -> float:
    """Two-sided p of Wilcoxon's test on the pairs' contrasts; pairs with equal errors are dropped, 1 if all are."""
    contrasts = _contrasts(legacy, modern)
    return float(wilcoxon(contrasts).pvalue) if len(contrasts) else 1.0


def _contrasts(legacy: Sequence[float], modern: Sequence[float]) -> np.ndarray:
    found = np.array([contrast(m, e) for e, m in zip(legacy, modern, strict=True)])
    return found[found != 0]


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down adjustment: comparing each with alpha keeps the chance of any false word below alpha."""
    ordered = sorted(p, key=lambda name: p[name])
    adjusted, largest = {}, 0.0
    for rank, name in enumerate(ordered):
        largest = max(largest, min(1.0, (len(ordered) - rank) * p[name]))
        adjusted[name] = largest
    return adjusted


def judge(errors: Mapping[str, tuple[Sequence[float], Sequence[float]]], bitwise: set[str]) -> dict[str, Finding]:
    """The word for each quantity, all tested together.

    Args:
        errors: quantity -> (e_legacy, e_modern), one entry per input.
        bitwise: quantities whose outputs were the same bytes on every input; they need no test and cost no power.
    """
    tested = {name: pair for name, pair in errors.items() if name not in bitwise and len(pair[0]) >= MIN_INPUTS}
    adjusted = holm({name: signed_rank(*pair) for name, pair in tested.items()})
    found = {}
    for name, pair in errors.items():
        if name in bitwise:
            found[name] = Finding(word=Word.SAME_ERROR, p=None, reason=f"same bytes on all {len(pair[0])} inputs")
        elif name not in tested:
            reason = f"{len(pair[0])} inputs; {MIN_INPUTS} are needed to say more"
            found[name] = Finding(word=Word.SAME_SIZE, p=None, reason=reason)
        else:
            found[name] = _word(*pair, adjusted[name])
    return found


def _word(legacy: Sequence[float], modern: Sequence[float], p: float) -> Finding:
    wins = sum(m < e for e, m in zip(legacy, modern, strict=True))
    losses = sum(m > e for e, m in zip(legacy, modern, strict=True))
    reason = f"modern nearer on {wins}, legacy on {losses} of {len(legacy)} inputs"
    if p >= ALPHA:
        return Finding(word=Word.SAME_SIZE, p=p, reason=reason)
    contrasts = _contrasts(legacy, modern)
    towards = float(np.sign(contrasts) @ rankdata(np.abs(contrasts)))
    return Finding(word=Word.CLOSER if towards < 0 else Word.FARTHER, p=p, reason=reason)
