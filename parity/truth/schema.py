"""truth.json: what a truth run found, and the only input of its page and its table. All words are decided before."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from parity.decode import read_record
from parity.files import write_atomically
from parity.schema import Skipped, plain

SCHEMA = 1


class Word(StrEnum):
    """What may be said of modern's error beside legacy's, from best to worst."""

    SAME_ERROR = "the same error"
    CLOSER = "closer"
    SAME_SIZE = "same size"
    FARTHER = "farther"
    OTHER_FORMULA = "another formula"
    ERROR = "error"


@dataclass(frozen=True, kw_only=True)
class TruthRow:
    """One quantity of one stage.

    legacy, modern: relative L2 distance from truth, one entry per input; empty if the stage could not be computed.
    bitwise: inputs on which both float32 results are the same bytes.
    ratio: R, the median of modern / legacy over the inputs. p: Holm-adjusted, None where nothing was tested.
    truths, allowed: largest distance of the two truths over the `checked` inputs, and what still passes for rounding.
    floor: largest distance of legacy from itself under one-ULP changes; measured for what is farther only.
    fails: the row alone makes the exit code 1.
    """

    pipeline: str
    stage: str
    quantity: str
    word: Word
    reason: str
    fails: bool
    inputs: int
    bitwise: int
    legacy: list[float]
    modern: list[float]
    ratio: float | None
    p: float | None
    checked: int
    truths: float | None
    allowed: float | None
    floor: float | None

    @property
    def name(self) -> str:
        """Unique in a run."""
        return f"{self.pipeline}/{self.stage}/{self.quantity}"


@dataclass(frozen=True, kw_only=True)
class TruthResults:
    """A whole truth run; keys: pipeline -> digest of all that shaped its distances."""

    schema: int = SCHEMA
    answer: str
    exit_code: int
    created: str
    command: str
    alpha: float
    scope: dict[str, Any]
    environment: dict[str, str]
    keys: dict[str, str]
    rows: list[TruthRow]
    not_exercised: list[Skipped]
    seconds: float

    def counts(self) -> dict[Word, int]:
        """Word -> number of rows, best first, only words that occur."""
        found = {word: sum(row.word is word for row in self.rows) for word in Word}
        return {word: count for word, count in found.items() if count}


def write_truth(results: TruthResults, path: Path) -> None:
    """Write atomically as JSON; infinities as the strings "inf" and "-inf"."""
    write_atomically(path, json.dumps(plain(results), allow_nan=False, indent=1).encode())


def read_truth(path: Path) -> TruthResults:
    """Read and check a truth.json.

    Raises:
        FileNotFoundError: none there.
        ValueError: not JSON, of another schema, or a field of a wrong type; the message says where.
    """
    return read_record(TruthResults, path, SCHEMA, "python -m parity truth")
