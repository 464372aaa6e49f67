"""The float formats whose figures are taken, and tensors as blocks of a bounded size in logical order."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

WORDS = {
    torch.float64: torch.int64,
    torch.float32: torch.int32,
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
}


def name_of(tensor: Tensor) -> str:
    """The dtype without its prefix."""
    return str(tensor.dtype).removeprefix("torch.")


def stretch(tensor: Tensor, start: int, stop: int) -> Tensor:
    """Elements start .. stop in logical order, one-dimensional: a view if memory allows, else a copy of these alone."""
    if tensor.is_contiguous():
        return tensor.view(-1)[start:stop]
    if stop - start == tensor.numel():
        return tensor.reshape(-1)
    places = np.unravel_index(
        np.arange(start, stop), tuple(tensor.shape)
    )  # torch's own loads a computer algebra system
    return tensor[tuple(torch.from_numpy(place).to(tensor.device) for place in places)]


def same_bytes(a: Tensor, b: Tensor) -> bool:
    """Whether two float tensors of one shape, dtype and device hold the same words."""
    return torch.equal(a.contiguous().view(WORDS[a.dtype]), b.contiguous().view(WORDS[b.dtype]))


def ordered(x: Tensor) -> Tensor:
    """Words of a float tensor as int64 that order like the numbers; both zeros give 0."""
    bits = x.contiguous().view(WORDS[x.dtype]).to(torch.int64)
    lowest = torch.iinfo(WORDS[x.dtype]).min
    return torch.where(bits >= 0, bits, lowest - bits)


def largest_number(word: int, dtype: torch.dtype) -> float:
    """The number whose word without sign is `word`."""
    return float(torch.from_numpy(np.array([word], np.uint64).view(np.int64)).to(WORDS[dtype]).view(dtype))


def layout_of(tensor: Tensor) -> tuple[object, ...]:
    """What two tensors of one shape may differ in without differing in value; axes of one element have no stride."""
    strides = (stride if size > 1 else 0 for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return (*strides, str(tensor.device))
