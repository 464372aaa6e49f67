"""The culprit of an audit's first divergence, named while both subjects' processes are at hand, in bounded time."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import TimeoutError as TooLong
from pathlib import Path

from parity import culprit
from parity.audit import Crew, Evidence, Say
from parity.located import Located
from parity.rows import first_divergence, make_rows
from parity.schema import Row
from parity.trace import is_stored
from parity.verdict import Verdict
from parity.worker import RunSpec, pipeline_of

LIMIT = 600.0  # seconds for both replays and the search


def name_culprit(evidence: Sequence[Evidence], members: Crew, say: Say) -> tuple[Located | None, str]:
    """The operation that makes the first divergence, or None and why; ("None", "") where nothing diverges."""
    rows = [row for part in evidence for row in make_rows(part)]
    first = first_divergence(rows)
    if first is None:
        return None, ""
    part = next(part for part in evidence if part.variant == first.variant)
    if not pipeline_of(part.spec).by_name[first.stage].isolated:
        return None, f"{first.stage} cannot be replayed alone"
    drifting = drifting_tensors(rows, first)
    with say(f"{part.variant}: which operation of {first.stage}"):
        return search(part.spec, first.stage, part.reference, drifting, members)


def drifting_tensors(rows: Sequence[Row], first: Row) -> list[str]:
    """Results of the row's stage that drift on legacy's own inputs."""
    own = [row for row in rows if (row.variant, row.stage, row.mode) == (first.variant, first.stage, "isolated")]
    return [row.tensor for row in own if row.verdict is Verdict.DRIFT and "@" not in row.tensor]


def search(
    spec: RunSpec, stage: str, reference: Path, tensors: Sequence[str], members: Crew
) -> tuple[Located | None, str]:
    """`culprit.locate` with each side in its own process; None and the reason where nothing is found in time."""
    if not is_stored(reference):
        return None, "the recordings of this run are gone; run the audit again"
    try:
        members.submit("legacy", culprit.prepare, spec, stage, reference).result(LIMIT)
        job = members.submit("modern", culprit.locate, spec, stage, reference, tensors)
        found: Located | None = job.result(LIMIT)
    except TooLong:
        members.stop()
        return None, f"not found within {LIMIT:.0f} s; python -m parity explain {spec.pipeline}/{stage} goes on"
    if found is None:
        return None, "given legacy's inputs the stage agrees: its replay does not take the road of the difference"
    return found, ""
