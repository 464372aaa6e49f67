"""What `conform` found, in words and as JSON; the exit code is decided here once."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """What may be said of one vector."""

    AGREES = "agrees"
    DISAGREES = "disagrees"
    UNDECIDED = "undecided"
    NOT_COMPUTED = "not computed"
    KNOWN = "known"
    NOT_ASKED = "not asked"
    INFO = "info"


_ASKED = (Outcome.AGREES, Outcome.DISAGREES, Outcome.UNDECIDED, Outcome.NOT_COMPUTED)


@dataclass(frozen=True, kw_only=True)
class Vector:
    """The outcome for one recorded vector; figures are None where nothing was compared."""

    name: str
    outcome: Outcome
    metric: str = ""
    bound: float | None = None
    figure: float | None = None
    max_abs: float | None = None
    rel_l2: float | None = None
    bitwise: bool | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class SubjectReport:
    """All vectors of a folder for one subject.

    problem: why it could not be run. switches: how it was run. seconds: how long its parts took.
    """

    subject: str
    vectors: tuple[Vector, ...] = ()
    problem: str = ""
    switches: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)

    def count(self, outcome: Outcome) -> int:
        """How many vectors had `outcome`."""
        return sum(vector.outcome is outcome for vector in self.vectors)

    @property
    def asked(self) -> int:
        """How many vectors the folder asks of this subject."""
        return sum(self.count(outcome) for outcome in _ASKED)

    @property
    def exit_code(self) -> int:
        """0 all that is asked agrees, 1 something disagrees, 2 cannot tell (also when nothing is asked)."""
        if self.count(Outcome.DISAGREES):
            return 1
        open_cases = self.count(Outcome.NOT_COMPUTED) + self.count(Outcome.UNDECIDED)
        return 2 if self.problem or open_cases or not self.count(Outcome.AGREES) else 0

    @property
    def only_undecided(self) -> bool:
        """Whether all that keeps this subject from exit code 0 are bounds below the rounding of this processor."""
        missing = self.count(Outcome.DISAGREES) + self.count(Outcome.NOT_COMPUTED)
        return self.count(Outcome.UNDECIDED) > 0 and not (self.problem or missing)


@dataclass(frozen=True, kw_only=True)
class ConformReport:
    """One run of `conform`; `problem` tells why the folder could not be judged at all."""

    folder: str
    device: str
    subjects: tuple[SubjectReport, ...] = ()
    problem: str = ""

    @property
    def exit_code(self) -> int:
        """As for one subject; beside others, a subject that is asked for nothing and ran into nothing is left out."""
        codes = {part.exit_code for part in self.subjects if part.asked or part.problem}
        if self.problem or not codes:
            return 2
        return 1 if 1 in codes else max(codes)

    @property
    def only_undecided(self) -> bool:
        """Whether nothing but undecided vectors stands between the subjects and exit code 0."""
        blocked = [part for part in self.subjects if (part.asked or part.problem) and part.exit_code]
        return bool(blocked) and not self.problem and all(part.only_undecided for part in blocked)


def as_json(report: ConformReport, environment: Mapping[str, str]) -> str:
    """The report as strict JSON text (schema 1); figures that are not finite become text."""
    subjects = [
        {
            "subject": part.subject,
            "exit_code": part.exit_code,
            "problem": part.problem,
            "switches": dict(part.switches),
            "seconds": {what: round(value, 2) for what, value in part.seconds.items()},
            "counts": {word.value: part.count(word) for word in Outcome},
            "vectors": [{key: _json_value(value) for key, value in vars(vector).items()} for vector in part.vectors],
        }
        for part in report.subjects
    ]
    document = {
        "schema": 1,
        "folder": report.folder,
        "device": report.device,
        "exit_code": report.exit_code,
        "problem": report.problem,
        "environment": dict(environment),
        "subjects": subjects,
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _json_value(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
