"""How far one run is from another, step by step.

Four figures, each 0 for equal runs: `loss` relative difference of the sum; `codes` relative L2; `weights`
||a - b|| / ||b - b0||, the distance in units of the way trained so far; `length` |<a - b0, b - b0> / ||b - b0||^2 - 1|,
how much longer or shorter a's way is along b's. Noise turns a step but hardly changes its length, so `length` sees a
wrong learning rate that `weights` cannot tell from noise. The last two are estimated from a sample of each tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from parity.steps.curve import SAMPLE, Curve

FIGURES = ("loss", "codes", "weights", "length")


@dataclass(frozen=True, kw_only=True)
class Distance:
    """One run against the reference; index k of each list is step k + 1.

    equal: whether losses, codes and every weight are the same bytes after that step.
    first_unequal: what departs first, as `step k: name`; empty if nothing does.
    """

    equal: list[bool]
    figures: dict[str, list[float]]
    first_unequal: str

    @property
    def identical_through(self) -> int:
        """The last step up to which everything is the same bytes."""
        return self.equal.index(False) if False in self.equal else len(self.equal)


def distance(run: Curve, reference: Curve) -> Distance:
    """Compare as many steps as both have, on the tensors that both train.

    Raises:
        ValueError: no trained tensor or loss in common.
    """
    shared = [key for key in reference.keys if key in run.keys]
    losses = [name for name in reference.names if name in run.names]
    if not shared or not losses:
        raise ValueError("the two runs share no trained tensor or no loss; they are not of one pipeline")
    steps = min(run.steps, reference.steps)
    weigh = _weights_of_sample(reference, shared)
    a, b = (_rows(curve, shared, steps) for curve in (run, reference))
    way_a, way_b = a[1:] - b[:1], b[1:] - b[:1]
    squared = (weigh * way_b * way_b).sum(1)
    return Distance(
        equal=[_equal(run, reference, step, shared, losses) for step in range(steps)],
        figures={
            "loss": [_relative(*_totals(run, reference, step)) for step in range(steps)],
            "codes": [_relative(run.codes[step], reference.codes[step]) for step in range(steps)],
            "weights": ((weigh * (way_a - way_b).square()).sum(1) / squared).sqrt().nan_to_num(0.0).tolist(),
            "length": ((weigh * way_a * way_b).sum(1) / squared - 1).abs().nan_to_num(0.0).tolist(),
        },
        first_unequal=next(
            (f"step {step + 1}: {name}" for step in range(steps) for name in _unequal(run, reference, step, shared)), ""
        ),
    )


def _weights_of_sample(curve: Curve, shared: Sequence[str]) -> Tensor:
    """How many elements each sampled one stands for."""
    kept = [count for key, count in zip(curve.keys, curve.counts, strict=True) if key in shared]
    return torch.cat([torch.full((min(count, SAMPLE),), count / min(count, SAMPLE)).double() for count in kept])


def _rows(curve: Curve, shared: Sequence[str], steps: int) -> Tensor:
    """[N+1,W] samples of the shared tensors, in the order of `shared`."""
    places, at = {}, 0
    for key, count in zip(curve.keys, curve.counts, strict=True):
        places[key] = slice(at, at + min(count, SAMPLE))
        at += min(count, SAMPLE)
    table = torch.stack(curve.weights[: steps + 1]).double()
    return torch.cat([table[:, places[key]] for key in shared], dim=1)


def _totals(run: Curve, reference: Curve, step: int) -> tuple[Tensor, Tensor]:
    """The sums of the losses; each term where one side has no sum."""
    total = next((name for name in reference.names if name.endswith("all_loss") and name in run.names), None)
    shared = [total] if total else [name for name in reference.names if name in run.names]
    picked = [[curve.losses[step][curve.names.index(name)] for name in shared] for curve in (run, reference)]
    return torch.stack(picked[0]), torch.stack(picked[1])


def _relative(a: Tensor, b: Tensor) -> float:
    if torch.equal(a, b):
        return 0.0
    return float((a.double() - b.double()).norm() / b.double().norm().clamp_min(1e-300))


def _equal(run: Curve, reference: Curve, step: int, shared: Sequence[str], losses: Sequence[str]) -> bool:
    same_losses = all(
        run.losses[step][run.names.index(name)] == reference.losses[step][reference.names.index(name)]
        for name in losses
    )
    same_codes = torch.equal(run.codes[step], reference.codes[step])
    return same_losses and same_codes and not any(True for _ in _unequal(run, reference, step, shared))


def _unequal(run: Curve, reference: Curve, step: int, shared: Sequence[str]) -> list[str]:
    """Weight tensors whose bytes differ after `step` (counted from 0)."""
    ours, theirs = run.digests[step + 1], reference.digests[step + 1]
    return [key for key in shared if ours[key] != theirs[key]]
