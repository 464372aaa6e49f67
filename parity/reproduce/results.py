"""reproduce.json: everything a matrix found, and the only input of its page and its terminal table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from parity.decode import read_record
from parity.files import write_atomically
from parity.reproduce.judge import Judged
from parity.reproduce.ranking import Share
from parity.schema import plain

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Invariance:
    """One entry of the invariance map: what along `axis` is the first stage and operation that is not bitwise the same.

    Empty strings: nothing moved. compared: operations looked at, None where none were logged. why_not: why it was not
    tried.
    """

    axis: str
    setting: str
    stage: str
    operation: str
    module: str
    source: str
    compared: int | None
    why_not: str = ""


@dataclass(frozen=True, kw_only=True)
class SubjectResults:
    """One subject in one pipeline.

    direct: quantity -> variance between runs as shipped. explained: quantity -> sum of the single causes over that.
    floor: quantity -> largest relative distance of the one-ULP runs.
    """

    subject: str
    pipeline: str
    steps: int
    raster: int
    answer: str
    recipe: list[str]
    cells: list[Judged]
    shares: list[Share]
    direct: dict[str, float]
    explained: dict[str, float]
    floor: dict[str, float]
    invariance: list[Invariance]


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """A whole run of `python -m parity reproduce`; seconds: wall time of its new cells."""

    schema: int = SCHEMA
    created: str
    command: str
    answer: str
    exit_code: int
    jobs: int
    seconds: float
    environment: dict[str, str]
    subjects: list[SubjectResults]


def write_matrix(matrix: Matrix, path: Path) -> None:
    """Write atomically; numbers that JSON cannot hold become strings."""
    write_atomically(path, json.dumps(plain(matrix), allow_nan=False, indent=1).encode())


def read_matrix(path: Path) -> Matrix:
    """Read what `write_matrix` wrote.

    Raises:
        ValueError: not such a file, or of another schema.
    """
    return read_record(Matrix, path, SCHEMA, "python -m parity reproduce")
