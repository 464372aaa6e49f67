"""What became of one planted change, as plain values that are kept between runs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from parity.decode import decode
from parity.files import write_atomically
from parity.schema import plain
from parity.selftest.mutation import Edit
from parity.verdict import Verdict
from parity.worker import RunSpec


@dataclass(frozen=True, kw_only=True)
class Task:
    """One change to examine.

    edits: of modern's source. setting: a name in `parity/selftest/settings.py`. environment: variables of a fresh
    process. whole: replay every stage within reach instead of stopping at the first drift. step: run modern's own
    training step too; it is run in any case where no replay drifts but one should.
    """

    id: str
    variant: str
    edits: tuple[Edit, ...] = ()
    setting: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    whole: bool = False
    step: bool = False
    hunted: bool = True


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What a change is held against, as files: legacy's trace and further replays, floors, what each stage runs.

    rasters: a folder of the rasteriser's answers.
    """

    spec: RunSpec
    variant: str
    reference: Path
    repeats: Path
    floors: Path
    spectrum: Path
    rasters: Path


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The worst comparison of one stage in one mode: isolated, repeated, side effect or chained.

    ratio: how many times its noise floor.
    """

    mode: str
    stage: str
    tensor: str
    verdict: Verdict
    ratio: float
    rel_l2: float | None


@dataclass(frozen=True, kw_only=True)
class Named:
    """Whom the audit names: a stage, and functions of modern as `file:function`, the likeliest first."""

    stage: str
    mode: str
    functions: list[str]
    by: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the audit saw of one change.

    cells: worst comparison by mode and stage. structure: facts of the step that differ. named: the culprit, if any.
    spots: functions that the change touches. reached: stages it can reach. note: why it could not be examined.
    """

    id: str
    cells: list[Cell] = field(default_factory=list)
    structure: list[str] = field(default_factory=list)
    named: Named | None = None
    spots: list[str] = field(default_factory=list)
    reached: list[str] = field(default_factory=list)
    stepped: bool = False
    note: str = ""
    seconds: float = 0.0

    def at(self, stage: str) -> list[Cell]:
        """The cells of one stage."""
        return [cell for cell in self.cells if cell.stage == stage]

    @property
    def noticed(self) -> bool:
        """Whether anything is worse than rounding."""
        return bool(self.structure) or any(cell.verdict not in _CALM for cell in self.cells)

    @property
    def largest(self) -> float:
        """The largest ratio to a floor; 0 where nothing differs."""
        return max((cell.ratio for cell in self.cells), default=0.0)


_CALM = frozenset({Verdict.IDENTICAL, Verdict.ROUNDING})


def write_outcome(outcome: Outcome, path: Path) -> None:
    """Keep an outcome, atomically."""
    write_atomically(path, json.dumps(plain(outcome), allow_nan=False).encode())


def read_outcome(path: Path) -> Outcome:
    """What `write_outcome` kept."""
    found: Outcome = decode(Outcome, json.loads(path.read_text()), "outcome")
    return found
