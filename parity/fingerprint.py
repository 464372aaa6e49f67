"""64 bits that stand for a tensor: equal tensors give equal ones, on the CPU as on a GPU, whatever their strides.

Each element's bit pattern is mixed with its position before patterns are added up, so permutation, transposition,
negation, swaps, moved halves, one flipped bit or the same bit flipped twice change the result; sums, norms and XOR are
blind to most of these. Not a cryptographic hash: where somebody may want to deceive, SHA-256 stays.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch
from torch import Tensor

from parity.engine.formats import name_of, stretch

_CHUNK = 1 << 20  # elements; part of the definition
_COMPILED = 1 << 16  # elements from which the CPU takes compiled code
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
# Constants of the splitmix64 generator (Steele et al. 2014), as signed 64-bit integers.
_GOLDEN, _MIX1, _MIX2 = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


def fingerprint(tensor: Tensor) -> str:
    """16 hexadecimal digits over dtype, shape and all elements in logical order.

    The tensor is not changed, and where memory is not in logical order only a million elements at a time are copied.

    Raises:
        ValueError: a sparse or quantised tensor, which has no elements in memory to go through.
    """
    name = name_of(tensor).encode()
    head = [int.from_bytes(name[i : i + 7], "little") for i in range(0, len(name), 7)]
    state = torch.zeros((), dtype=torch.int64)
    for number in [*head, tensor.dim(), *tensor.shape, content(tensor)]:
        state = mix(state ^ torch.tensor(number)) + _GOLDEN
    return f"{int(state) & (1 << 64) - 1:016x}"


def content(tensor: Tensor) -> int:
    """The fingerprint of the elements alone, a signed 64-bit integer: neither dtype nor shape is part of it.

    Chunk by chunk: mix(total) + the sum of mix(pattern ^ position's own word).
    """
    tensor = _plain(tensor)
    if tensor.device.type == "cpu" and tensor.is_contiguous() and tensor.numel() >= _COMPILED:
        sums = _compiled_sums(tensor.view(-1))
    else:
        starts = range(0, tensor.numel(), _CHUNK)
        sums = [_sum(stretch(tensor, start, min(start + _CHUNK, tensor.numel()))) for start in starts]
    total = torch.zeros((), dtype=torch.int64)
    for part in sums:
        total = mix(total) + part
    return int(total)


def mix(x: Tensor) -> Tensor:
    """splitmix64's finalizer on int64; torch shifts keep the sign, so the shifted-in bits are masked away."""
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * _MIX1
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * _MIX2
    return x ^ ((x >> 31) & ((1 << 33) - 1))


@cache
def position_words(device: str = "cpu") -> Tensor:
    """[_CHUNK] int64, one pseudo-random word per position of a chunk."""
    return mix(torch.arange(1, _CHUNK + 1, dtype=torch.int64, device=device) * _GOLDEN)


def _plain(tensor: Tensor) -> Tensor:
    if tensor.layout is not torch.strided or tensor.is_quantized:
        raise ValueError(f"fingerprint of a {tensor.layout} tensor: make it dense first".replace("torch.", ""))
    tensor = tensor.detach()
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def _sum(flat: Tensor) -> int:
    bits = flat.contiguous().view(_BITS[flat.element_size()]).to(torch.int64)
    return int(mix(bits ^ position_words(str(flat.device))[: len(bits)]).sum())


def _compiled_sums(flat: Tensor) -> list[int]:
    from parity.engine.mixing import chunk_sum  # loading the compiler takes longer than a small tensor

    words = flat.view(_BITS[flat.element_size()]).numpy()
    chunks = [words[start : start + _CHUNK] for start in range(0, len(words), _CHUNK)]
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        found = [int(part) for part in pool.map(chunk_sum, chunks)]
    return [part - (1 << 64) if part >= 1 << 63 else part for part in found]
