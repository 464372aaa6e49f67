"""What an audit found at one stage, in a few lines."""

from __future__ import annotations

from collections import Counter

from parity.located import StageError
from parity.pipelines import PIPELINES
from parity.schema import Results, Row
from parity.verdict import Verdict

SHOWN = 5


def explain_stage(results: Results, name: str) -> str:
    """A short text: verdicts, what feeds the stage, the rows farthest over their floor, how to repeat them.

    Args:
        results: of an audit.
        name: a stage, or `pipeline/stage`; a stage that both pipelines have is told of both.

    Raises:
        ValueError: no such stage among the results.
    """
    pipeline, _, stage = name.rpartition("/")
    known = [(part.pipeline, part.name) for part in results.stages]
    wanted = [key for key in known if key[1] == stage and pipeline in ("", key[0])]
    if not wanted:
        raise ValueError(f"unknown stage {name!r}; known: {', '.join('/'.join(key) for key in known)}")
    return "\n\n".join(_explained(results, *key) for key in wanted)


def _explained(results: Results, pipeline: str, stage: str) -> str:
    rows = [row for row in results.rows if (row.pipeline, row.stage) == (pipeline, stage)]
    summary = next(part for part in results.stages if (part.pipeline, part.name) == (pipeline, stage))
    contract = PIPELINES[pipeline].by_name[stage]
    feeds = ", ".join(sorted(set(contract.inputs.values()))) or "gradients, parameters and moments"
    lines = [
        f"{pipeline}/{stage}: {contract.doc}",
        f"  isolated: {summary.isolated or 'not run'}; chained: {summary.chained or 'not run'}",
        f"  reads {feeds}",
        f"  {_sentence(summary.isolated, summary.chained)}",
        *(_error_line(error) for error in results.errors if (error.pipeline, error.stage) == (pipeline, stage)),
    ]
    counts = Counter((row.mode, row.verdict) for row in rows)
    lines += [f"  {mode}: {count} x {word}" for (mode, word), count in sorted(counts.items())]
    lines += [_line(row) for row in sorted(_unequal(rows), key=_excess, reverse=True)[:SHOWN]]
    if rows:
        lines.append(f"  repeat: {rows[0].repeat}")
    return "\n".join(lines)


def _error_line(error: StageError) -> str:
    """Injected, inherited and amplified, of the worst tensor of one variant."""
    grown = ""
    if error.condition is not None:
        grown = f", condition {error.condition:.2g} (from {error.condition_from})"
    return (
        f"  {error.variant}, {error.tensor}: {error.origin}; injected {_figure(error.injected)}, "
        f"inherited {_figure(error.inherited)}, passed on {_figure(error.passed_on)}{grown}"
    )


def _figure(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2g}"


def _sentence(isolated: Verdict | None, chained: Verdict | None) -> str:
    if isolated is Verdict.DRIFT:
        return "The difference is born here: given legacy's own inputs, this stage yields something else."
    if chained is Verdict.DRIFT:
        return "Given legacy's inputs this stage agrees, so the difference came in from an earlier stage."
    return "No difference beyond rounding is born or passed on here."


def _unequal(rows: list[Row]) -> list[Row]:
    return [row for row in rows if not row.bitwise]


def _excess(row: Row) -> float:
    if row.rel_l2 is None:
        return float("inf")
    return row.rel_l2 / row.floor if row.floor else row.rel_l2


def _line(row: Row) -> str:
    if row.rel_l2 is None:
        return f"  {row.id}: {row.verdict}, {row.reason}"
    floor = "no floor" if row.floor is None else f"floor {row.floor:.2g}"
    worst = (
        f"worst at {row.worst_index}: {row.worst_reference:.9g} -> {row.worst_candidate:.9g}" if row.worst_index else ""
    )
    return f"  {row.id}: {row.verdict}, relative L2 {row.rel_l2:.3g} ({floor}), max |d| {row.max_abs:.3g} {worst}"
