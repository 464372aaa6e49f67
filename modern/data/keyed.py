"""Random choices that depend on a key alone, not on who asks, in which order or how often."""

from __future__ import annotations

import hashlib


def keyed_seed(*key: int | str) -> int:
    """A 63-bit seed made from a key; the same on every platform and version."""
    text = "/".join(map(str, key)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1


def keyed_integer(bound: int, *key: int | str) -> int:
    """An integer of 0..bound-1, uniform over keys (to one part in 2**63 / bound)."""
    if bound < 1:
        raise ValueError(f"nothing to choose from: bound is {bound}")
    return keyed_seed(*key) % bound
