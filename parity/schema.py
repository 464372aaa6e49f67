"""results.json, schema 3: everything a run found, and the only input of the report, the terminal table and JUnit.

Every verdict in it was decided before it is written; its readers only show. Numbers that JSON cannot hold are stored
as the strings "inf", "-inf" and "nan".
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

from parity.decode import decode, parsed
from parity.files import write_atomically
from parity.located import Located, StageError
from parity.verdict import Verdict

SCHEMA = 3
PNG = "data:image/png;base64,"
Mode = Literal["chained", "isolated", "repeat:legacy", "repeat:modern", "golden:legacy", "golden:modern"]


class Histogram(TypedDict):
    """Counts of elements by ULP distance between consecutive `edges`, powers of two; distance 0 is counted apart."""

    edges: list[float]
    counts: list[int]
    zeros: int


class SliceError(TypedDict):
    """The slice `index` along `axis` (of `length`) that carries the largest share, 0..1, of the squared error."""

    axis: int
    index: int
    length: int
    share: float


class Skipped(TypedDict):
    """Something a reader might expect that was not compared."""

    what: str
    why: str


class Goldens(TypedDict):
    """State of the recordings that the run was held against."""

    state: str
    path: str
    detail: str


class FloorEvidence(TypedDict):
    """What the noise floors were measured on, and the factor c that turns a floor into a bound."""

    source: str
    draws: int
    c: float
    detail: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison of one tensor; `id` is shared with pytest, JUnit and the report's links.

    structural, layout, rel_scaled, slices, margin: see `parity/comparison.py`; floor_max_abs, floor_differing,
    floor_margin: the rest of the floor, so that a row can be judged again (`parity/rejudge.py`).
    floor and bound: noise floor of `rel_l2` and what the verdict allowed. For a scalar, `worst_reference` and
    `worst_candidate` are its two values, also when they agree. repeat: the command that repeats this row.
    """

    id: str
    pipeline: str
    stage: str
    tensor: str
    mode: Mode
    variant: str
    step: int
    shape: list[int]
    dtype: str
    verdict: Verdict
    reason: str
    bitwise: bool
    count: int
    differing: int
    max_abs: float | None
    mean_signed: float | None
    max_ulp: float | None
    scaled_ulp: float | None
    rel_l2: float | None
    cosine: float | None
    worst_index: list[int] | None
    worst_reference: float | None
    worst_candidate: float | None
    floor: float | None
    bound: float | None
    histogram: Histogram | None
    unit: str
    repeat: str
    structural: str = ""
    layout: str = ""
    rel_scaled: float | None = None
    slices: list[SliceError] = field(default_factory=list)
    margin: float | None = None
    floor_max_abs: float | None = None
    floor_differing: int | None = None
    floor_margin: float | None = None


@dataclass(frozen=True, kw_only=True)
class StageSummary:
    """One stage of the contract with the worst verdict of its rows; None where a mode was not run."""

    pipeline: str
    name: str
    doc: str
    unit: str
    isolated: Verdict | None
    chained: Verdict | None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One structural fact of the traces and what became of it."""

    name: str
    verdict: Verdict
    detail: str


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One rendering of both sides and their difference, as PNG data URIs.

    scale: what the colours of the difference mean. legend: what the ends and the middle of a height map's colours mean,
    lowest first; empty for a picture in its own colours.
    """

    title: str
    caption: str
    legacy: str
    modern: str
    difference: str
    scale: str
    legend: list[str]


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One input frame as an image data URI."""

    title: str
    image: str


@dataclass(frozen=True, kw_only=True)
class Known:
    """One registered discrepancy: its bound and the figure found, as numbers or in words."""

    id: str
    stage: str
    bound: float | str | None
    reason: str
    since: str
    verdict: Verdict
    figure: float | str | None


@dataclass(frozen=True, kw_only=True)
class TruthSummary:
    """What a truth run of the same sources found (docs/truth.md): its words counted, and its page beside the report."""

    answer: str
    exit_code: int
    counts: dict[str, int]
    page: str


@dataclass(frozen=True, kw_only=True)
class Results:
    """A whole run. `first_divergence` is the id of a row; `timings` are seconds.

    resources: subject and variant -> seconds of its traced run and peak memory of its process in GB, taps included.
    truth: set when a truth run of the same sources lies beside the report.
    culprit: the operation that makes the first divergence; `culprit_note` says why there is none. errors: by stage.
    """

    schema: int = SCHEMA
    answer: str
    verdict: Verdict
    exit_code: int
    first_divergence: str | None
    created: str
    command: str
    scope: dict[str, Any]
    environment: dict[str, str]
    stages: list[StageSummary]
    rows: list[Row]
    structure: list[Finding]
    draws: dict[str, list[Any]]
    pictures: list[Picture]
    frames: list[Frame]
    skipped: list[Skipped]
    known: list[Known]
    goldens: Goldens
    floor: FloorEvidence
    timings: dict[str, float]
    resources: dict[str, dict[str, float]]
    truth: TruthSummary | None = None
    culprit: Located | None = None
    culprit_note: str = ""
    errors: list[StageError] = field(default_factory=list)

    @property
    def divergence(self) -> Row | None:
        """The row that `first_divergence` names."""
        return next((row for row in self.rows if row.id == self.first_divergence), None)


def to_json(results: Results) -> dict[str, Any]:
    """`results` as plain lists, dicts, strings and finite numbers."""
    return plain(results)


def from_json(document: Any) -> Results:
    """Check a parsed results.json and build `Results` from it.

    Raises:
        ValueError: another schema version, or a field that is missing, unknown, of a wrong type or inconsistent; the
            message says where.
    """
    found = document.get("schema") if isinstance(document, dict) else None
    if found != SCHEMA:
        raise ValueError(f"results: schema is {found!r}, this version reads {SCHEMA}; run the audit again to write it")
    results: Results = decode(Results, document, "results")
    _check(results)
    return results


def validate(results: Results) -> None:
    """Raise ValueError unless `results` can be written and read back."""
    from_json(to_json(results))


def read_results(path: Path) -> Results:
    """Read and check a results.json.

    Raises:
        ValueError: not JSON, or of another schema.
    """
    document = parsed(path, "run the audit again")
    try:
        return from_json(document)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def write_results(results: Results, path: Path) -> None:
    """Check `results`, then write them atomically."""
    document = to_json(results)
    from_json(document)
    write_atomically(path, json.dumps(document, allow_nan=False, indent=1).encode())


def plain(value: Any) -> Any:
    """Dataclasses as dicts, tuples as lists, numbers that JSON cannot hold as strings; recursively."""
    if is_dataclass(value):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _check(results: Results) -> None:
    if results.exit_code not in (0, 1, 2):
        raise ValueError(f"results.exit_code is {results.exit_code}; allowed are 0, 1 and 2")
    twice = [name for name, count in Counter(row.id for row in results.rows).items() if count > 1]
    if twice:
        raise ValueError(f"results.rows: id {twice[0]!r} occurs more than once; ids must be unique")
    stages = {(stage.pipeline, stage.name) for stage in results.stages}
    for row in results.rows:
        if (row.pipeline, row.stage) not in stages:
            where = f"stage {row.stage!r} of {row.pipeline!r}"
            raise ValueError(f"results.rows: {row.id!r} belongs to {where}, which results.stages lacks")
        if row.histogram and len(row.histogram["edges"]) != len(row.histogram["counts"]) + 1:
            raise ValueError(f"results.rows: histogram of {row.id!r} needs one more edge than counts")
    if results.first_divergence is not None and results.divergence is None:
        raise ValueError(f"results.first_divergence {results.first_divergence!r} is not the id of a row")
    _check_images(results)


def _check_images(results: Results) -> None:
    images = {f"frames {frame.title!r}": (frame.image, "data:image/") for frame in results.frames}
    for picture in results.pictures:
        for side in ("legacy", "modern", "difference"):
            images[f"pictures {picture.title!r} {side}"] = (getattr(picture, side), PNG)
    for where, (uri, prefix) in images.items():
        if not uri.startswith(prefix):
            raise ValueError(f"results.{where}: an image must be a data URI that starts with {prefix}")
