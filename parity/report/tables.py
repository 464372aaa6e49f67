"""The tables that the report and the terminal show, derived from results: nothing is judged here."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from parity.rows import drift_of, floor_of
from parity.schema import Finding, Results, Row, StageSummary
from parity.verdict import Verdict, deciding, excess, worst

# Column -> the stages whose tensors it shows, and the prefix of their names; d_ and g_: the detail stage's updates.
UPDATE_COLUMNS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "gradient": (("gradients", "d_gradients", "g_gradients"), ""),
    "exp_avg": (("adam", "d_adam", "g_adam"), "exp_avg/"),
    "exp_avg_sq": (("adam", "d_adam", "g_adam"), "exp_avg_sq/"),
    "parameter": (("adam", "d_adam", "g_adam"), "parameter/"),
}
LOSS_STAGES = ("losses", "d_losses", "g_losses")
_SEVERITY = {word: rank for rank, word in enumerate(Verdict)}
_OBSERVER = re.compile(r"(?P<variant>.+?): observer, (?P<subject>\w+): (?P<kind>.+)")
_MODULE = re.compile(r".+?\.layers\.\d+|[^.]+\.[^.]+|[^.]+")


def over_floor(row: Row) -> float | None:
    """The figure that decides in units of its noise floor (`parity.verdict.excess`); None where there is no floor.

    Of a row that holds the floor of `rel_l2` only, that figure's; infinite where the floor is zero.
    """
    if row.rel_l2 is None or row.floor is None:
        return None
    if floor := floor_of(row):
        return excess(drift_of(row), floor)
    return row.rel_l2 / row.floor if row.floor else math.inf if row.rel_l2 else 0.0


def decided(row: Row, c: float) -> tuple[str, float | None, float | None]:
    """The figure that decides a verdict: its name, its value and what was allowed, c times its floor."""
    times_floor, name, found = deciding(drift_of(row), floor_of(row))
    if not found or not 0 < times_floor < math.inf:
        return name, found, row.bound
    return name, found, found * c / times_floor


def severity(row: Row) -> tuple[int, float, float]:
    """Sort key, worst last: verdict, then how far over the floor, then rel_l2."""
    return (_SEVERITY[row.verdict], over_floor(row) or 0.0, row.rel_l2 or 0.0)


def worst_row(rows: Iterable[Row]) -> Row | None:
    """The most severe row, None of none."""
    return max(rows, key=severity, default=None)


def tally(verdicts: Iterable[Verdict]) -> dict[Verdict, int]:
    """How often each word occurs, in order of severity, absent words left out."""
    counts = Counter(verdicts)
    return {word: counts[word] for word in Verdict if counts[word]}


def worst_by_stage(results: Results) -> dict[tuple[str, str, str], Row]:
    """(pipeline, stage, mode) -> its most severe row."""
    found: dict[tuple[str, str, str], Row] = {}
    for row in results.rows:
        key = (row.pipeline, row.stage, row.mode)
        if key not in found or severity(row) > severity(found[key]):
            found[key] = row
    return found


def stages_by_pipeline(results: Results) -> dict[str, list[StageSummary]]:
    """Pipeline -> its stages, in order."""
    found: dict[str, list[StageSummary]] = {}
    for stage in results.stages:
        found.setdefault(stage.pipeline, []).append(stage)
    return found


def side_checks(results: Results) -> dict[str, dict[Verdict, int]]:
    """Verdict counts of the modes that are not a comparison of the two subjects: repeats and goldens."""
    modes = sorted({row.mode for row in results.rows} - {"chained", "isolated"})
    return {mode: tally(row.verdict for row in results.rows if row.mode == mode) for mode in modes}


@dataclass(frozen=True)
class ObserverTable:
    """Findings about the audit's own taps: kind -> one finding for each of `runs`, None where absent."""

    runs: list[str]
    kinds: dict[str, list[Finding | None]]


def is_observer(finding: Finding) -> bool:
    """Whether a finding speaks of the audit's own taps."""
    return _OBSERVER.fullmatch(finding.name) is not None


def observer_table(results: Results) -> ObserverTable:
    """All such findings; a run is called `subject (variant)`."""
    found = {
        (f"{match['subject']} ({match['variant']})", match["kind"]): finding
        for finding in results.structure
        if (match := _OBSERVER.fullmatch(finding.name))
    }
    runs, kinds = (list(dict.fromkeys(key[axis] for key in found)) for axis in (0, 1))
    return ObserverTable(runs=runs, kinds={kind: [found.get((run, kind)) for run in runs] for kind in kinds})


@dataclass(frozen=True)
class LossTable:
    """Loss terms of one run in their own order; `isolated` holds, by a term's row id, its replay on legacy's inputs."""

    variant: str
    step: int
    terms: list[Row]
    isolated: dict[str, Row]


def loss_tables(results: Results) -> list[LossTable]:
    """One table per (variant, step) with a chained loss."""
    rows = [row for row in results.rows if row.stage in LOSS_STAGES]
    alone = {(row.variant, row.step, row.stage, row.tensor): row for row in rows if row.mode == "isolated"}
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        if row.mode == "chained":
            groups.setdefault((row.variant, row.step), []).append(row)
    tables = []
    for (variant, step), terms in groups.items():
        isolated = {row.id: alone.get((variant, step, row.stage, row.tensor)) for row in terms}
        found = {name: row for name, row in isolated.items() if row is not None}
        tables.append(LossTable(variant, step, terms, found))
    return tables


@dataclass(frozen=True)
class UpdateGroup:
    """Parameters of one module: key -> column -> its worst row over the steps, worst parameter first."""

    module: str
    parameters: dict[str, dict[str, Row]]
    verdict: Verdict
    summary: dict[str, Row]

    @property
    def size(self) -> int:
        """Number of parameters."""
        return len(self.parameters)


def update_groups(results: Results, mode: str, variant: str) -> list[UpdateGroup]:
    """Gradient, Adam moments and parameter of every trainable parameter, grouped by module, worst first."""
    cells: dict[str, dict[str, Row]] = {}
    for row in results.rows:
        if row.mode == mode and row.variant == variant:
            _place(row, cells)
    modules: dict[str, dict[str, dict[str, Row]]] = {}
    for key, columns in cells.items():
        match = _MODULE.match(key)
        modules.setdefault(match.group() if match else key, {})[key] = columns
    groups = [_group(module, parameters) for module, parameters in modules.items()]
    return sorted(groups, key=lambda group: max(map(severity, group.summary.values())), reverse=True)


def _place(row: Row, cells: dict[str, dict[str, Row]]) -> None:
    for column, (stages, prefix) in UPDATE_COLUMNS.items():
        if row.stage in stages and row.tensor.startswith(prefix):
            owner = "D/" if row.stage.startswith("d_") else ""  # the discriminator's keys do not name it
            columns = cells.setdefault(owner + row.tensor.removeprefix(prefix).partition("@")[0], {})
            columns[column] = max(columns.get(column, row), row, key=severity)


def _group(module: str, parameters: dict[str, dict[str, Row]]) -> UpdateGroup:
    def worst_of(columns: dict[str, Row]) -> tuple[int, float, float]:
        return max(map(severity, columns.values()))

    ordered = dict(sorted(parameters.items(), key=lambda item: worst_of(item[1]), reverse=True))
    rows = [(column, row) for columns in ordered.values() for column, row in columns.items()]
    summary = {
        column: max((row for name, row in rows if name == column), key=severity)
        for column in UPDATE_COLUMNS
        if any(name == column for name, _ in rows)
    }
    return UpdateGroup(module, ordered, worst(row.verdict for _, row in rows), summary)


def describe_scope(scope: dict[str, Any]) -> str:
    """The scope in one line, for the page and the terminal."""
    parts = [
        scope.get("batch"),
        scope.get("device"),
        scope.get("isa"),
        _count(scope.get("threads"), "thread"),
        f"torch {scope['torch']}" if "torch" in scope else None,
        f"seed {scope['seed']}" if "seed" in scope else None,
        _count(scope.get("steps"), "step"),
    ]
    return " \u00b7 ".join(str(part) for part in parts if part is not None)


def _count(number: int | None, name: str) -> str | None:
    return None if number is None else f"{number} {name}{'' if number == 1 else 's'}"
