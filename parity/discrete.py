"""Discontinuous quantities: which elements flipped, and whether each lay at a boundary.

A face id is a choice: of the faces over a pixel the nearest one wins. Where two are about equally good, rounding
decides, and the id flips without anything being wrong. Whether a flip is of that kind is told by its deciding margin,
held against the largest margin that noise has been seen to flip (`parity/noise.py`), never against a number typed in.

What the recorded tensors allow: `raster/face_ids`, by the barycentric coordinates beside them. Visibility, landmark
rows and argmax are not recorded as choices; the maps that follow from them are compared as numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from parity.comparison import Drift, compare

_BARYCENTRIC = "raster/barycentric"


def compare_choices(reference: Tensor, candidate: Tensor, margins: Tensor | None = None) -> Drift:
    """The drift of two tensors of choices, with the largest deciding margin among the elements that flipped.

    Args:
        reference: integers or bools.
        candidate: likewise.
        margins: of the same shape, how far each element was from being decided otherwise (>= 0); None: not known.

    Returns:
        The exact drift; `margin` is None if nothing flipped or margins are not known, infinite if one is NaN.

    Raises:
        ValueError: the margins have another shape.
    """
    drift = compare(reference, candidate)
    if margins is None or drift.structural or not drift.differing:
        return drift
    if margins.shape != reference.shape:
        raise ValueError(f"margins of shape {list(margins.shape)} for choices of shape {list(reference.shape)}")
    flipped = margins[reference != candidate.to(reference.device)].to(torch.float64)
    return replace(drift, margin=float(flipped.nan_to_num(nan=torch.inf).max()))


def compare_named(key: str, reference: Mapping[str, Tensor], candidate: Mapping[str, Tensor]) -> Drift:
    """Compare tensor `key` (`stage/tensor`, `stage/tensor@step`) of two traces, as a choice where it is a known one."""
    name, at, step = key.partition("@")
    if name not in _MARGINS:
        return compare(reference[key], candidate[key])
    beside = [_side(trace, key, at + step) for trace in (reference, candidate)]
    margins = _MARGINS[name](*beside) if all(side is not None for side in beside) else None
    return compare_choices(reference[key], candidate[key], margins)


def compare_stage(stage: str, reference: Mapping[str, Tensor], candidate: Mapping[str, Tensor], tensor: str) -> Drift:
    """`compare_named` for the outputs of one stage, which carry no prefix."""
    if f"{stage}/{tensor}" not in _MARGINS:
        return compare(reference[tensor], candidate[tensor])
    sides = [{f"{stage}/{name}": value for name, value in outputs.items()} for outputs in (reference, candidate)]
    return compare_named(f"{stage}/{tensor}", *sides)


def edge_margins(reference: tuple[Tensor, Tensor], candidate: tuple[Tensor, Tensor]) -> Tensor:
    """How far each pixel lies inside the faces that were chosen for it, in barycentric units.

    The smallest coordinate is the distance to the nearest edge, 0 on it. A flip across a shared edge or a silhouette is
    near 0 on both sides, so the larger one counts; where one face hides another both lie inside, and the margin is
    large: depths are not recorded, so such a flip is not taken for a boundary's.

    Args:
        reference: face ids [..., H,W], -1 for background, and barycentric coordinates [..., H,W,3].
        candidate: likewise.
    """
    insides = [torch.where(ids >= 0, weights.amin(-1), 0.0).clamp(min=0) for ids, weights in (reference, candidate)]
    return torch.maximum(*insides)


_MARGINS: Mapping[str, Callable[..., Tensor]] = {"raster/face_ids": edge_margins}


def _side(trace: Mapping[str, Tensor], key: str, suffix: str) -> tuple[Tensor, Tensor] | None:
    weights = trace.get(_BARYCENTRIC + suffix)
    return None if weights is None or weights.shape[:-1] != trace[key].shape else (trace[key], weights)
