"""The compiled sum behind a fingerprint (`parity/fingerprint.py` says what it is)."""

from typing import Any

import numpy as np
from numba import njit

from parity.engine.cache import compiled_code_is_kept

_compiled: Any = njit(nogil=True, cache=compiled_code_is_kept())
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1, _MIX2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@_compiled
def _mix(x: Any) -> Any:
    x = (x ^ (x >> np.uint64(30))) * _MIX1
    x = (x ^ (x >> np.uint64(27))) * _MIX2
    return x ^ (x >> np.uint64(31))


@_compiled
def chunk_sum(words: Any) -> Any:
    """Sum, modulo 2^64, of each word mixed with its position; `words` are integers of any width."""
    total = np.uint64(0)
    for i in range(len(words)):
        total += _mix(np.uint64(np.int64(words[i])) ^ _mix(np.uint64(i + 1) * _GOLDEN))
    return total
