"""The drift of two tensors, as figures. No thresholds here: a stored drift can be judged again without running again.

Definitions (r reference, c candidate, d = c - r; figures are taken in float64 over the pairs that are finite):

- ULP distance: representable numbers from r to c in their own format. -0 and +0 are 0 apart, the smallest subnormals of
  both signs 2, the largest number and infinity 1. A float16 is never counted in float32's steps.
- Two NaN, or twice the same infinity, are no difference, whatever the NaN's payload; only `bitwise` sees that. NaN or
  infinity on one side only is structural: then no figure has a meaning and none is given.
- Scaled ULP: max|d| in units of the spacing of the largest |r|; unlike the raw distance it does not explode near zero.
- rel_scaled: the largest |d| / (|r| + rms(r)).

How the pass is made: docs/engine.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from parity.engine.blocks import tally_blocks
from parity.engine.exact import count_unequal
from parity.engine.formats import WORDS, layout_of, name_of, ordered, same_bytes, stretch
from parity.engine.plane import Plane, Slice, plane_of
from parity.engine.tally import Tally

COMPILED = 1 << 13  # elements from which compiled code takes the pass; below, torch's own operations use one thread
_ZEROS = ("max_abs", "mean_signed", "max_ulp", "scaled_ulp", "rel_l2", "rel_max", "rel_scaled")


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Figures of `candidate` against `reference`; None where a figure has no meaning.

    structural: what makes a number impossible (shape, dtype, NaN or infinity on one side only), else "".
    layout: how strides or device differ, else ""; the same numbers in another order of memory are no drift.
    mean_signed: mean of candidate - reference (bias); rel_l2: ||c - r|| / ||r||, absolute norm when r is zero.
    histogram: elements by ULP distance, {"edges": powers of two, "counts": between them, "zeros": distance 0}.
    worst_*: the element of largest difference; of a tensor with one element always that one.
    margin: of choices, the largest deciding margin among those that flipped (`parity/discrete.py`).
    slices: along each axis the slice with the largest share of the squared error (exact types: of unequal elements).
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
    rel_scaled: float | None = None
    cosine: float | None = None
    worst_index: tuple[int, ...] | None = None
    worst_reference: float | None = None
    worst_candidate: float | None = None
    histogram: dict[str, Any] | None = None
    slices: tuple[Slice, ...] = ()
    margin: float | None = None
    layout: str = field(default="", compare=False)

    @property
    def exact(self) -> bool:
        """Whether elements are right or wrong (integers, bools), so that only their number can be held to a floor.

        Of a recording that kept a sample only, the number is not known but `mean_signed` is: then figures are judged.
        """
        return not self.structural and self.dtype not in FLOATS and self.mean_signed is None


FLOATS = frozenset(name.removeprefix("torch.") for name in map(str, WORDS)) | {"complex64", "complex128"}


def compare(reference: Tensor, candidate: Tensor) -> Drift:
    """Compare two tensors of any dtype, shape and strides where they are; neither is changed or copied.

    Float tensors yield all figures, complex ones as pairs (real, imaginary) along one more axis. Others are compared
    exactly: `max_abs` is the largest difference and `rel_l2` the share of unequal elements. A CUDA tensor is compared
    on its device; if the devices differ, the candidate is brought to the reference's. Differences never raise.
    """
    reference, candidate = reference.detach(), candidate.detach()
    if problem := _mismatch(reference, candidate):
        return mismatched(candidate, problem, reference.numel())
    layout = _layout(reference, candidate)
    candidate = candidate.to(reference.device)
    common = {"shape": tuple(reference.shape), "dtype": name_of(reference), "layout": layout}
    if reference.is_complex():
        reference, candidate = (torch.view_as_real(side.resolve_conj()) for side in (reference, candidate))
    if reference.dtype not in WORDS:
        return _compare_exact(reference, candidate, common)
    return _compare_float(reference, candidate, common)


def mismatched(candidate: Tensor, problem: str, count: int | None = None, layout: str = "") -> Drift:
    """The drift of a tensor that no number can tell because of `problem`; `count`: elements of the reference."""
    count = candidate.numel() if count is None else count
    return Drift(
        shape=tuple(candidate.shape),
        dtype=name_of(candidate),
        structural=problem,
        bitwise=False,
        count=count,
        differing=count,
        layout=layout,
    )


def ulp_distance(a: Tensor, b: Tensor) -> Tensor:
    """Number of representable values between `a` and `b`, elementwise, as float64 (equal zeros and NaN pairs give 0).

    Both float tensors of one dtype. Exact up to 2^53, beyond that to float64's precision.
    """
    x, y = ordered(a), ordered(b)
    high, low = torch.maximum(x, y), torch.minimum(x, y)
    difference = high - low  # may need 64 bits without a sign
    distance = difference.to(torch.float64) + torch.where(difference < 0, 2.0**64, 0.0)
    return torch.where(torch.isnan(a) & torch.isnan(b), 0.0, distance)


def _mismatch(reference: Tensor, candidate: Tensor) -> str:
    if reference.shape != candidate.shape:
        return f"shape {list(candidate.shape)} instead of {list(reference.shape)}"
    if reference.dtype != candidate.dtype:
        return f"dtype {name_of(candidate)} instead of {name_of(reference)}"
    for side in (reference, candidate):
        if side.layout is not torch.strided or side.is_quantized:
            return f"layout {side.layout} cannot be compared; make both dense".replace("torch.", "")
    return ""


def _layout(reference: Tensor, candidate: Tensor) -> str:
    if layout_of(reference) == layout_of(candidate):
        return ""
    if reference.device != candidate.device:
        return f"on {candidate.device} instead of {reference.device}"
    return f"strides {list(candidate.stride())} instead of {list(reference.stride())}"


def _compare_exact(reference: Tensor, candidate: Tensor, common: dict[str, Any]) -> Drift:
    if reference.dtype.is_floating_point:  # float8 and the like: no arithmetic, but bytes
        reference, candidate = reference.view(torch.uint8), candidate.view(torch.uint8)
    count, plane = reference.numel(), plane_of(tuple(reference.shape))
    if not count:
        return Drift(**common, structural="", bitwise=True, count=0, differing=0, max_abs=0.0, rel_l2=0.0, rel_max=0.0)
    found = count_unequal(reference, candidate, plane)
    return Drift(
        **common,
        structural="",
        bitwise=found.differing == 0,
        count=count,
        differing=found.differing,
        max_abs=found.max_abs,
        rel_l2=found.differing / count,
        rel_max=found.differing / count,
        slices=plane.slices(found.rows, found.columns),
        **(_worst(reference, candidate, found.worst) if found.worst is not None and found.differing else {}),
    )


def _compare_float(reference: Tensor, candidate: Tensor, common: dict[str, Any]) -> Drift:
    count = reference.numel()
    flat = (
        reference.is_contiguous() and candidate.is_contiguous()
    )  # then a look at the bytes stops at the first unequal
    if (flat or count < COMPILED) and same_bytes(reference, candidate):
        return _identical(reference, candidate, common)
    plane = plane_of(tuple(reference.shape))
    found = _tally(reference, candidate, plane)
    if found.one_sided:
        problem = f"NaN or infinity on one side only at {found.one_sided} elements"
        return mismatched(candidate, problem, count, common["layout"])
    if not found.unequal:
        return _identical(reference, candidate, common)
    precision = torch.finfo(reference.dtype)
    return Drift(
        **common,
        structural="",
        bitwise=False,
        count=count,
        **found.figures(count, precision.eps, precision.smallest_normal * precision.eps),  # type: ignore[arg-type]
        histogram=found.ulp_histogram(count),
        slices=plane.slices(found.rows_error, found.columns),
        **_worst(reference, candidate, _worst_place(reference, candidate, plane, found)),
    )


def _identical(reference: Tensor, candidate: Tensor, common: dict[str, Any]) -> Drift:
    count = reference.numel()
    zeros: dict[str, Any] = dict.fromkeys(_ZEROS, 0.0)
    one = _worst(reference, candidate, 0) if count == 1 else {}
    return Drift(**common, structural="", bitwise=True, count=count, differing=0, cosine=1.0, **zeros, **one)


def _tally(reference: Tensor, candidate: Tensor, plane: Plane) -> Tally:
    if reference.device.type == "cpu" and reference.numel() >= COMPILED:
        from parity.engine.compiled import tally_compiled  # loading the compiler takes longer than a small tensor

        return tally_compiled(reference, candidate, plane)
    return tally_blocks(reference, candidate, plane)


def _worst_place(reference: Tensor, candidate: Tensor, plane: Plane, found: Tally) -> int:
    """Flat index of the first largest difference: the row is known, only it is looked at again."""
    start = int(found.rows_big.argmax()) * plane.width
    stop = min(start + plane.width, reference.numel())
    r, c = (stretch(side, start, stop).to(torch.float64) for side in (reference, candidate))
    return start + int((c - r).abs().nan_to_num(nan=-1.0, posinf=math.inf).argmax())


def _worst(reference: Tensor, candidate: Tensor, flat: int) -> dict[str, Any]:
    index = tuple(int(i) for i in np.unravel_index(flat, tuple(reference.shape)))
    return {
        "worst_index": index,
        "worst_reference": float(reference[index]),
        "worst_candidate": float(candidate[index]),
    }
