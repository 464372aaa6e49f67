"""The distance of a float32 result from truth, per quantity: one output of a stage, or all parameters together."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from parity.comparison import compare
from parity.stages import Pipeline


def quantity(pipeline: Pipeline, stage: str, tensor: str) -> str:
    """What an output is counted under.

    Outputs of most stages stand for themselves. Gradients and updates have one tensor per parameter; these are taken
    together, moments and parameters apart: some true gradients are zero (a bias before a normalisation), and relative
    to nothing any rounding is infinite.
    """
    if pipeline.by_name[stage].gradients:
        return tensor.split("/")[0]
    if any(other.gradients == stage for other in pipeline.stages):
        return "gradient"
    return tensor


def grouped(pipeline: Pipeline, stage: str, names: list[str]) -> dict[str, list[str]]:
    """Quantity -> the outputs it consists of."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(quantity(pipeline, stage, name), []).append(name)
    return found


def distance(truth: Mapping[str, Tensor], found: Mapping[str, Tensor], names: list[str]) -> float:
    """Relative L2 distance over all of `names` together, in float64; absolute where truth is zero.

    Raises:
        ValueError: a shape that differs, or a value that is not finite.
    """
    error = norm = 0.0
    for name in names:
        t, f = truth[name].double(), found[name].double()
        if t.shape != f.shape:
            raise ValueError(f"{name} has shape {list(f.shape)}, truth has {list(t.shape)}")
        error += float((f - t).square().sum())
        norm += float(t.square().sum())
    if not math.isfinite(error + norm):
        raise ValueError(f"{names[0]}: a value is not finite")
    return math.sqrt(error / norm) if norm else math.sqrt(error)


def same_bytes(a: Mapping[str, Tensor], b: Mapping[str, Tensor], names: list[str]) -> bool:
    """Whether all of `names` are equal bit for bit."""
    return all(compare(a[name], b[name]).bitwise for name in names)
