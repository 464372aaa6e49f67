"""A tensor in a few kilobytes that still tells whether a later one is the same, and how far off it is if not.

A stored tensor is a dict of parts: `full` for small ones, `narrow` + `dtype` for integer maps, else `sample` and
statistics. N elements, B sketch buckets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from parity.comparison import Drift, compare
from parity.fingerprint import content, position_words

LIMIT = 4096  # elements kept: of the whole tensor, or of an evenly spaced sample
_INTEGER_LIMIT = 1 << 17  # integer maps (face ids) are exact or wrong, so they are kept whole up to this size
_CHUNK = 1 << 20

Stored = Mapping[str, Tensor]


def summarise(tensor: Tensor, limit: int = LIMIT) -> dict[str, Tensor]:
    """What is kept of `tensor`: all of it up to `limit` elements, else a sample with figures of the whole.

    Returns:
        `full`, or `narrow` (an integer tensor in a smaller type) and `dtype` (empty, carries the original type), or:
        `sample` [limit] evenly spaced flat elements, both ends included; `sketch` [B] float64; `figures` float64
        [l2, sum, largest magnitude], these over the finite elements;
        `words` int64 [fingerprint of the elements, count of NaN and infinities, *shape].
    """
    tensor = tensor.detach().cpu().contiguous()
    if tensor.numel() <= limit:
        return {"full": tensor.clone()}
    if not tensor.is_floating_point() and tensor.numel() <= _INTEGER_LIMIT:
        return _narrow(tensor)
    flat = tensor.reshape(-1)
    finite = torch.isfinite(flat)
    values = torch.where(finite, flat, torch.zeros_like(flat)).to(torch.float64)
    return {
        "sample": flat[_positions(len(flat), limit)].clone(),
        "sketch": _sketch(values, max(limit // 4, 1)),
        "figures": torch.stack([values.norm(), values.sum(), values.abs().max()]),
        "words": torch.tensor([content(tensor), int((~finite).sum()), *tensor.shape]),
    }


def compare_summary(stored: Stored, live: Tensor) -> Drift:
    """Drift of `live` against what `summarise` kept of the reference.

    Exact for tensors kept whole. For a sampled one: `bitwise` compares 64-bit fingerprints of all elements;
    `mean_signed` is exact; `rel_l2` is estimated over all elements from the sketch (standard error about
    1/sqrt(2B)); `differing`, `max_abs` and what derives from them are seen in the sample or implied by the sketch,
    hence lower bounds.
    """
    reference = stored_tensor(stored)
    if reference is not None:
        return compare(reference, live)
    fresh = summarise(live, len(stored["sample"]))
    if structural := _structural(stored, fresh, live):
        dtype = str(live.dtype).removeprefix("torch.")
        count = math.prod(_shape(stored))
        return Drift(
            shape=tuple(live.shape), dtype=dtype, structural=structural, bitwise=False, count=count, differing=count
        )
    return _drift(stored, fresh, tuple(live.shape))


def stored_tensor(stored: Stored) -> Tensor | None:
    """The original tensor where it was kept whole, else None."""
    if "full" in stored:
        return stored["full"]
    return stored["narrow"].to(stored["dtype"].dtype) if "narrow" in stored else None


def _sketch(values: Tensor, buckets: int) -> Tensor:
    """Sums of randomly signed elements, element i in bucket i mod B; linear, so sketches subtract like tensors.

    The squared norm of the difference of two sketches has the squared norm of the tensors' difference as its mean
    (Alon, Matias and Szegedy 1996).
    """
    total = torch.zeros(buckets, dtype=torch.float64)
    for number, chunk in enumerate(values.split(_CHUNK // buckets * buckets)):
        padded = torch.nn.functional.pad(chunk * _signs()[: len(chunk)], (0, -len(chunk) % buckets))
        flip = 1 - 2 * (int(position_words()[number]) & 1)
        total += flip * padded.reshape(-1, buckets).sum(0)
    return total


@cache
def _signs() -> Tensor:
    """[_CHUNK] float64, +1 or -1."""
    return ((position_words() >> 63) * 2 + 1).to(torch.float64)  # >> 63 gives 0 or -1


def _positions(count: int, kept: int) -> Tensor:
    return torch.arange(kept) * (count - 1) // (kept - 1)


def _narrow(tensor: Tensor) -> dict[str, Tensor]:
    low, high = int(tensor.min()), int(tensor.max())
    for dtype in (torch.uint8, torch.int16, torch.int32):
        if torch.iinfo(dtype).min <= low and high <= torch.iinfo(dtype).max:
            return {"narrow": tensor.to(dtype), "dtype": torch.empty(0, dtype=tensor.dtype)}
    return {"full": tensor.clone()}


def _shape(stored: Stored) -> list[int]:
    return stored["words"][2:].tolist()


def _structural(stored: Stored, fresh: Stored, live: Tensor) -> str:
    wanted = _shape(stored)
    if list(live.shape) != wanted:
        return f"shape {list(live.shape)} instead of {wanted}"
    if live.dtype != stored["sample"].dtype:
        return f"dtype {live.dtype} instead of {stored['sample'].dtype}".replace("torch.", "")
    missing = int(fresh["words"][1]) - int(stored["words"][1])
    return f"NaN or infinity on one side only at {abs(missing)} elements" if missing else ""


def _drift(stored: Stored, fresh: Stored, shape: tuple[int, ...]) -> Drift:
    count, seen = math.prod(shape), compare(stored["sample"], fresh["sample"])
    bitwise = bool(stored["words"][0] == fresh["words"][0])
    if seen.structural:
        return replace(seen, shape=shape, count=count, differing=count)
    if bitwise:
        return replace(seen, shape=shape, count=count)
    difference = fresh["sketch"] - stored["sketch"]
    in_bucket = math.ceil(count / len(difference))
    largest = max(seen.max_abs or 0.0, float(difference.abs().max()) / in_bucket)
    (norm, total, scale), distance = stored["figures"].tolist(), float(difference.norm())
    floating = stored["sample"].is_floating_point()
    eps = torch.finfo(stored["sample"].dtype).eps if floating else 1.0
    return replace(
        seen,
        shape=shape,
        bitwise=False,
        count=count,
        differing=max(seen.differing, 1),
        max_abs=largest,
        mean_signed=(float(fresh["figures"][1]) - total) / count,
        scaled_ulp=largest / (eps * scale) if scale else None,
        rel_l2=distance / norm if norm else distance,
        rel_max=largest / scale if scale else largest,
        cosine=None,
        worst_index=_full_index(seen.worst_index, len(stored["sample"]), shape),
    )


def _full_index(index: tuple[int, ...] | None, kept: int, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    if index is None:
        return None
    flat = _positions(math.prod(shape), kept)[index[0]]
    return tuple(int(i) for i in torch.unravel_index(flat, shape))
