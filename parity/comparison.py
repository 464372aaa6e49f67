"""The drift of two tensors, as figures. No thresholds here: a stored drift can be judged again without running again.

Scaled ULP is max|a-b| in units of the spacing of the largest reference value, which unlike the raw ULP distance does
not explode near zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

_BITS = {
    torch.float64: torch.int64,
    torch.float32: torch.int32,
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
}
_DECADES = np.arange(-16, 5)


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Figures of `candidate` against `reference`; None where a figure has no meaning.

    structural: what makes a number impossible (shape, dtype, NaN or infinity on one side only), else "".
    mean_signed: mean of candidate - reference (bias); rel_l2: ||c - r|| / ||r||, absolute norm when r is zero.
    histogram: log10 of |difference| in decades, with the number of exact zeros apart.
    worst_*: the element of largest difference; of a tensor with one element always that one.
    """

    shape: tuple[int, ...]
    dtype: str
    structural: str
    bitwise: bool
    count: int
    differing: int
    max_abs: float | None = None
    mean_signed: float | None = None
    max_ulp: float | None = None
    scaled_ulp: float | None = None
    rel_l2: float | None = None
    rel_max: float | None = None
    cosine: float | None = None
    worst_index: tuple[int, ...] | None = None
    worst_reference: float | None = None
    worst_candidate: float | None = None
    histogram: dict[str, Any] | None = None


def compare(reference: Tensor, candidate: Tensor) -> Drift:
    """Compare two tensors of any dtype and equal shape without changing them; differences never raise.

    Float figures are taken in float64. Integer and bool tensors are compared exactly: `max_abs` is the largest
    difference and `rel_l2` the share of differing elements.
    """
    reference, candidate = reference.detach().cpu(), candidate.detach().cpu()
    structural = _structural(reference, candidate)
    if structural:
        return broken(candidate, structural)
    if reference.dtype not in _BITS:
        return _compare_exact(reference, candidate)
    return _compare_float(reference, candidate)


def broken(tensor: Tensor, why: str) -> Drift:
    """The drift of what no number can tell: `why` in a few words, for a tensor like `tensor`."""
    count = tensor.numel()
    return Drift(
        shape=tuple(tensor.shape), dtype=_name(tensor), structural=why, bitwise=False, count=count, differing=count
    )


def ulp_distance(a: Tensor, b: Tensor) -> Tensor:
    """Number of representable values between `a` and `b`, elementwise, as float64 (equal zeros and NaN pairs give 0).

    Both float tensors of one dtype. Bits are mapped to ordered integers, so -0 and +0 coincide and the largest finite
    value is one step from infinity (determinism research, "How to compare").
    """
    distance = (_ordered(a) - _ordered(b)).abs().to(torch.float64)
    return torch.where(torch.isnan(a) & torch.isnan(b), torch.zeros_like(distance), distance)


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _structural(reference: Tensor, candidate: Tensor) -> str:
    if reference.shape != candidate.shape:
        return f"shape {list(candidate.shape)} instead of {list(reference.shape)}"
    if reference.dtype != candidate.dtype:
        return f"dtype {_name(candidate)} instead of {_name(reference)}"
    if reference.dtype in _BITS:
        nan = (torch.isnan(reference) != torch.isnan(candidate)).sum().item()
        inf_r, inf_c = torch.isinf(reference), torch.isinf(candidate)
        inf = ((inf_r != inf_c) | (inf_r & inf_c & (reference != candidate))).sum().item()
        if nan or inf:
            return f"NaN or infinity on one side only at {nan + inf} elements"
    return ""


def _ordered(x: Tensor) -> Tensor:
    bits = x.contiguous().view(_BITS[x.dtype]).to(torch.int64)
    lowest = torch.iinfo(_BITS[x.dtype]).min
    return torch.where(bits >= 0, bits, lowest - bits)


def _same_bytes(a: Tensor, b: Tensor) -> bool:
    if a.dtype in _BITS:
        return bool(torch.equal(a.contiguous().view(_BITS[a.dtype]), b.contiguous().view(_BITS[b.dtype])))
    return bool(torch.equal(a, b))


def _compare_exact(reference: Tensor, candidate: Tensor) -> Drift:
    unequal = reference != candidate
    differing = int(unequal.sum())
    difference = (candidate.to(torch.float64) - reference.to(torch.float64)).abs()
    worst = int(difference.argmax()) if differing else None
    return Drift(
        shape=tuple(reference.shape),
        dtype=_name(reference),
        structural="",
        bitwise=differing == 0,
        count=reference.numel(),
        differing=differing,
        max_abs=float(difference.max()) if reference.numel() else 0.0,
        rel_l2=differing / max(reference.numel(), 1),
        rel_max=differing / max(reference.numel(), 1),
        **_worst(reference, candidate, worst),
    )


def _compare_float(reference: Tensor, candidate: Tensor) -> Drift:
    count = reference.numel()
    common: dict[str, Any] = {"shape": tuple(reference.shape), "dtype": _name(reference), "structural": ""}
    if _same_bytes(reference, candidate):
        zeros: dict[str, Any] = {
            "max_abs": 0.0,
            "mean_signed": 0.0,
            "max_ulp": 0.0,
            "scaled_ulp": 0.0,
            "rel_l2": 0.0,
            "rel_max": 0.0,
        }
        scalar = _worst(reference, candidate, 0) if count == 1 else {}
        return Drift(**common, bitwise=True, count=count, differing=0, cosine=1.0, **zeros, **scalar)
    finite = torch.isfinite(reference)
    r, c = reference.to(torch.float64)[finite], candidate.to(torch.float64)[finite]
    if r.numel() == 0:
        return Drift(**common, bitwise=False, count=count, differing=0, max_abs=0.0, rel_l2=0.0, rel_max=0.0)
    difference = (candidate.to(torch.float64) - reference.to(torch.float64)).abs()
    difference = torch.where(finite, difference, torch.zeros_like(difference))
    error, scale = c - r, float(r.abs().max())
    norm, largest = float(r.norm()), float(difference.max())
    return Drift(
        **common,
        bitwise=False,
        count=count,
        differing=int((difference > 0).sum()),
        max_abs=largest,
        mean_signed=float(error.mean()),
        max_ulp=float(ulp_distance(reference[finite], candidate[finite]).max()),
        scaled_ulp=largest / (torch.finfo(reference.dtype).eps * scale)
        if scale
        else math.inf * largest
        if largest
        else 0.0,
        rel_l2=float(error.norm()) / norm if norm else float(error.norm()),
        rel_max=largest / scale if scale else largest,
        cosine=_cosine(r, c),
        histogram=_histogram(difference),
        **_worst(reference, candidate, int(difference.argmax())),
    )


def _cosine(r: Tensor, c: Tensor) -> float | None:
    product = float(r.norm()) * float(c.norm())
    return float(r @ c) / product if product else None


def _worst(reference: Tensor, candidate: Tensor, flat: int | None) -> dict[str, Any]:
    if flat is None or reference.numel() == 0:
        return {}
    return {
        "worst_index": tuple(int(i) for i in np.unravel_index(flat, tuple(reference.shape))),
        "worst_reference": float(reference.reshape(-1)[flat]),
        "worst_candidate": float(candidate.reshape(-1)[flat]),
    }


def _histogram(difference: Tensor) -> dict[str, Any]:
    values = difference.reshape(-1).numpy()
    nonzero = values[values > 0]
    logs = np.clip(np.log10(nonzero), _DECADES[0], _DECADES[-1])
    counts, _ = np.histogram(logs, bins=_DECADES)
    return {"edges": _DECADES.tolist(), "counts": counts.tolist(), "zeros": int(values.size - nonzero.size)}
