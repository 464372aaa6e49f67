"""Memory that is free already goes back to the system."""

from __future__ import annotations

import ctypes
import sys


def give_back_memory() -> None:
    """Return free pages of every arena of glibc's allocator; elsewhere nothing.

    Each thread allocates from an arena of its own, of which a freed tensor's place serves that thread only: two sides
    in step would hold up to 1.4 times the memory that their tensors need.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
