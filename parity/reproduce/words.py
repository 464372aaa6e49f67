"""What may be said of one cell of the matrix, and of the whole."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Word(StrEnum):
    """From best to worst; the last four say nothing about reproduction."""

    BITWISE = "bitwise"
    NOISE = "within noise"
    MOVED = "not the same"
    NOT_EXERCISED = "not exercised"
    REFUSED = "cannot run"
    NOT_RUN = "not run"
    ERROR = "error"


RAN = (Word.BITWISE, Word.NOISE, Word.MOVED)


def worst(words: Iterable[Word]) -> Word | None:
    """The worst word among those that say something about reproduction; None if none does."""
    found = [word for word in words if word in RAN]
    return max(found, key=RAN.index, default=None)
