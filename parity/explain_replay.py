"""The operation behind a stage's difference, from stored results and recordings: only that stage is run again."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from parity.audit import crew, trace_place
from parity.culprit_audit import drifting_tensors, search
from parity.schema import Results, Row
from parity.session import Request, progress
from parity.trace import is_stored
from parity.worker import RunSpec, pipeline_of


def operation_lines(results: Results, name: str, console: Console) -> Iterator[str]:
    """What to print below the figures of a stage (`STAGE` or `PIPELINE/STAGE`), for each variant that differs."""
    pipeline, _, stage = name.rpartition("/")
    rows = [row for row in results.rows if row.stage == stage and pipeline in ("", row.pipeline) and row.step == 0]
    unequal = [row for row in rows if row.mode == "isolated" and not row.bitwise]
    if not unequal:
        if any(not row.bitwise for row in rows):
            yield "operation: none; on legacy's own inputs the stage yields the same bytes"
        return
    for variant in dict.fromkeys(row.variant for row in unequal):
        yield from _of_variant(results, next(row for row in unequal if row.variant == variant), console)


def _of_variant(results: Results, row: Row, console: Console) -> Iterator[str]:
    spec = spec_of(results, row)
    reference = trace_place(spec, "legacy")
    if not is_stored(reference):
        yield f"operation: not searched for, the recordings of this run are gone; make them with: {results.command}"
        return
    if not pipeline_of(spec).by_name[row.stage].isolated:
        yield f"operation: {row.stage} cannot be replayed alone"
        return
    with crew() as members, progress(console, {}) as say, say(f"{row.variant}: replaying {row.stage} on both sides"):
        found, note = search(spec, row.stage, reference, drifting_tensors(results.rows, row), members)
    if found is None:
        yield f"operation: {note}"
        return
    yield f"operation ({row.variant}; {found.agreed} of {found.operations} before it agree):"
    yield from (f"  {line}" for line in found.lines)
    yield from (f"  or      {place.op}, {place.source} ({place.function})" for place in found.others)


def spec_of(results: Results, row: Row) -> RunSpec:
    """The run that a row belongs to, from the stored scope."""
    scope = results.scope
    request = Request(
        legacy_root=scope.get("legacy_root", ""),
        batch=scope["batch"],
        pipeline=row.pipeline,
        device=scope["device"],
        seed=scope["seed"],
        steps=scope["steps"],
        threads=scope["threads"],
    )
    return request.variants(scope["batch"])[row.variant]
