"""What a pass adds up, how two parts are merged, and the figures that follow from it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass
class Tally:
    """Sums and extremes over the elements of a part; d is candidate minus reference r, c the candidate.

    unequal: some byte differs. skipped: pairs of which one is not finite, left out of all that follows; one_sided:
    those of them that are not the same infinity or both NaN.
    sums: [5] float64, of d, d^2, r^2, c^2 and r c. histogram: [64] unequal pairs by the highest bit of their distance.
    largest: of |r|; far: of the ULP distance; share: of |d| / (|r| + scale).
    columns: [P] sums of d^2 by column; rows_big, rows_error: [R] largest |d| and sum of d^2 of each row.
    """

    unequal: bool
    skipped: int
    one_sided: int
    sums: NDArray[np.float64]
    histogram: NDArray[np.int64]
    largest: float
    far: float
    share: float
    columns: NDArray[np.float64]
    rows_big: NDArray[np.float64]
    rows_error: NDArray[np.float64]

    def merged(self, later: Tally) -> Tally:
        """The tally of both parts, `later` being the rows that follow."""
        return Tally(
            unequal=self.unequal or later.unequal,
            skipped=self.skipped + later.skipped,
            one_sided=self.one_sided + later.one_sided,
            sums=self.sums + later.sums,
            histogram=self.histogram + later.histogram,
            largest=max(self.largest, later.largest),
            far=max(self.far, later.far),
            share=max(self.share, later.share),
            columns=self.columns + later.columns,
            rows_big=np.concatenate([self.rows_big, later.rows_big]),
            rows_error=np.concatenate([self.rows_error, later.rows_error]),
        )

    def figures(self, count: int, epsilon: float, smallest: float) -> dict[str, float | int | None]:
        """The figures of `count` elements, by their names in `Drift`.

        Args:
            count: elements in all.
            epsilon: spacing of the format's numbers at 1.
            smallest: spacing at 0.

        Where squares overflow float64, `rel_l2` is infinite; where they vanish, the largest elements stand for norms.
        """
        s, dd, rr, cc, rc = self.sums.tolist()
        big, used = float(self.rows_big.max(initial=0.0)), count - self.skipped
        norm, product = max(math.sqrt(rr), self.largest), math.sqrt(rr) * math.sqrt(cc)
        finite, spacing = math.isfinite(dd + rr + cc), max(epsilon * self.largest, smallest)
        return {
            "differing": int(self.histogram.sum()),
            "max_abs": big,
            "mean_signed": s / used if used else 0.0,
            "max_ulp": self.far,
            "scaled_ulp": big / spacing if self.largest else math.inf if big else 0.0,
            "rel_l2": max(math.sqrt(dd), big) / (norm or 1.0) if finite else math.inf,
            "rel_max": big / (self.largest or 1.0),
            "rel_scaled": self.share,
            "cosine": rc / product if finite and product else None,
        }

    def ulp_histogram(self, count: int) -> dict[str, list[float] | list[int] | int]:
        """Unequal pairs between powers of two of their ULP distance, as far as there are any; equal ones apart."""
        used = int(np.flatnonzero(self.histogram).max(initial=0)) + 1
        counts = self.histogram[:used].tolist()
        zeros = count - self.skipped - int(self.histogram.sum())
        return {"edges": [2.0**bit for bit in range(used + 1)], "counts": counts, "zeros": zeros}
