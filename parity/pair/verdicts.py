"""What an audit of a pair says, in the words, the schema and the report of every other audit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from parity.comparison import Drift
from parity.environment import fingerprint
from parity.noise import C, Floor
from parity.pair.answer import answer, blame, phase, standing_out
from parity.pair.audit import PairAudit
from parity.pair.judging import judged_value
from parity.pair.lockstep import SIDES
from parity.pair.watch import Entry
from parity.rows import allowance, figures_of
from parity.schema import Finding, FloorEvidence, Goldens, Results, Row, Skipped, StageSummary
from parity.verdict import Verdict, exit_code, judge, overall, worst

_EXACTLY = Floor(0.0, 0.0, 0)  # weights and optimizer steps counted are given, not computed: nothing is forgiven
_DOCS = {
    "weights": "parameters and buffers before the step",
    "operations": "every operation of both sides, forward and backward",
    "output": "what the model returns",
    "loss": "the scalar that backward starts from",
    "gradients": "gradient of every parameter",
    "buffers": "running statistics and other buffers after the step",
    "update": "optimizer state and weights after the update",
}


def judged(audit: PairAudit, name: str, *, command: str, scope: dict[str, Any], timings: dict[str, float]) -> Results:
    """Rows, verdicts, first divergence and answer of one audit; `name` is shown as the pipeline."""
    rows = [*_rows(audit, name, command)]
    culprit = next((row for row in rows if row.verdict is Verdict.DRIFT), None)
    findings = _findings(audit, rows, culprit)
    words = [row.verdict for row in rows] + [finding.verdict for finding in findings]
    stages = list(dict.fromkeys(row.stage for row in rows))
    return Results(
        answer=answer(audit, rows, findings, culprit),
        verdict=overall(words),
        exit_code=exit_code(words),
        first_divergence=culprit.id if culprit else None,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        scope={
            **scope,
            "isa": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "steps": 1,
        },
        environment=fingerprint(),
        stages=[_summary(name, stage, rows) for stage in stages],
        rows=rows,
        structure=findings,
        draws={},
        pictures=[],
        frames=[],
        skipped=_skipped(audit),
        known=[],
        goldens=Goldens(state="none", path="", detail="a pair keeps no goldens"),
        floor=FloorEvidence(
            source="measured in this run" if audit.draws else "not measured",
            draws=audit.draws,
            c=C,
            detail=f"largest drift of the reference against itself with inputs and weights moved by one ULP; "
            f"bound = {C:g} x floor",
        ),
        timings=timings,
        resources={},
    )


def places(entry: Entry) -> str:
    """Module and source line of an operation on both sides."""
    sides = (("candidate", entry.candidate), ("reference", entry.reference))
    return "; ".join(f"{side}: {call.module or '(no module)'}, {_short(call.source)}" for side, call in sides)


def _short(source: str) -> str:
    path = Path(source)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else source or "no source line"


def _rows(audit: PairAudit, name: str, command: str) -> Iterator[Row]:
    for key, drift in audit.given.items():
        match = audit.weights.matches[key]
        verdict, reason = judge(drift, _EXACTLY)
        origin = f"{reason}; {match.how} match with {', '.join(match.reference)}"
        yield _row(name, "weights", key, drift, verdict, origin, _EXACTLY, command)
    for entry in audit.ran.entries:
        yield from _entry_rows(audit, entry, name, command)
    for key, drift in sorted(audit.ran.values.items(), key=lambda item: phase(item[0])):
        stage, _, tensor = key.partition("/")
        verdict, reason, floor = judged_value(audit, key, drift)
        yield _row(name, stage, tensor, drift, verdict, reason, floor, command)


def _entry_rows(audit: PairAudit, entry: Entry, name: str, command: str) -> Iterator[Row]:
    for place, drift in enumerate(entry.drifts):
        key = f"op/{entry.number}/{place}" if audit.ran.in_order else ""
        verdict, reason, floor = judged_value(audit, key, drift)
        if not audit.ran.in_order and verdict is not Verdict.IDENTICAL:
            verdict = Verdict.NOT_EXERCISED
            reason = f"{reason}; aligned, not judged: the sides run different operations"
        if entry.cause is not None:
            reason = f"{reason}; {blame(entry)}; {places(entry)}"
        tensor = f"{entry.number:04d} {entry.candidate.op} {entry.candidate.module}"
        tensor += f" #{place}" if len(entry.drifts) > 1 else ""
        yield _row(name, "operations", tensor, drift, verdict, reason, floor, command)


def _row(
    name: str, stage: str, tensor: str, drift: Drift, verdict: Verdict, reason: str, floor: Floor | None, command: str
) -> Row:
    return Row(
        id=f"chained/{name}/{stage}/{tensor}",
        pipeline=name,
        stage=stage,
        tensor=tensor,
        mode="chained",
        variant=name,
        step=0,
        verdict=verdict,
        reason=reason,
        unit="",
        repeat=command,
        **figures_of(drift),
        **allowance(floor, C),
    )


def _findings(audit: PairAudit, rows: list[Row], culprit: Row | None) -> list[Finding]:
    ran, found = audit.ran, []
    in_update = culprit is not None and culprit.stage == "update" and audit.gradients_agree
    if not in_update and (first := standing_out(audit, culprit)):
        own = next(row.verdict for row in rows if row.tensor.startswith(f"{first.number:04d} "))
        verdict = Verdict.DRIFT if culprit else own  # it belongs to what drifts, even where it is not judged by itself
        found.append(Finding(name="first departure", verdict=verdict, detail=f"{blame(first)}; {places(first)}"))
    if audit.settings:
        seen = any(row.stage == "update" and row.verdict is Verdict.DRIFT for row in rows)
        verdict = Verdict.DRIFT if seen else Verdict.NOT_EXERCISED
        detail = "; ".join(audit.settings) + ("" if seen else "; not to be seen in the numbers of this one step")
        found.append(Finding(name="optimizer settings", verdict=verdict, detail=detail))
    for stage, why in audit.set_aside.items():
        detail = f"{why}; name it in STAGES to have it judged, or give STAGES = {{}} for none"
        found.append(Finding(name=f"stage set aside, {stage}", verdict=Verdict.NOT_EXERCISED, detail=detail))
    for stage, sides in ran.not_reached.items():
        who = " and the ".join(SIDES[side] for side in sides)
        detail = f"the {who} never calls its module; its weights are judged all the same"
        found.append(Finding(name=f"stage not reached, {stage}", verdict=Verdict.NOT_EXERCISED, detail=detail))
    how = Counter(match.how for match in audit.weights.matches.values())
    detail = ", ".join(f"{count} {word}" for word, count in how.items()) or "none"
    found.append(Finding(name="weights matched", verdict=Verdict.IDENTICAL, detail=detail))
    for key in audit.weights.only_candidate:
        reason = audit.weights.refused.get(key, "no partner")
        found.append(Finding(name=f"weight {key}", verdict=Verdict.MISSING, detail=f"candidate only: {reason}"))
    for key in audit.weights.only_reference:
        found.append(Finding(name=f"weight {key}", verdict=Verdict.MISSING, detail="reference only"))
    for key, side in ran.unpaired.items():
        detail = f"only the {('reference', 'candidate')[side]} has it"
        found.append(Finding(name=key, verdict=Verdict.DRIFT, detail=detail))
    for text in audit.changed_inputs:
        found.append(Finding(name=f"input changed, {text}", verdict=Verdict.DRIFT, detail="changed in place"))
    if ran.in_order:
        found.append(Finding(name="operations", verdict=Verdict.IDENTICAL, detail=f"the same {len(ran.entries)}"))
    return found


def _skipped(audit: PairAudit) -> list[Skipped]:
    ran, gaps = audit.ran, []
    if not ran.in_order:
        left, right = (len(calls) for calls in ran.alone)
        why = (
            f"the sides run different operations: {len(ran.entries)} aligned with certainty, {left} without partner "
            f"in the reference, {right} in the candidate, {ran.ambiguous} groups ambiguous; stages are judged instead"
        )
        gaps.append(Skipped(what="verdicts of single operations", why=why))
    if not audit.draws:
        gaps.append(Skipped(what="noise floor, repeats", why="not asked for (draws = 0)"))
    if "loss/loss" not in ran.values:
        gaps.append(Skipped(what="backward pass", why="no loss was given"))
    if not any(key.startswith("update/") for key in ran.values):
        gaps.append(Skipped(what="optimizer update", why="no optimizer was given"))
    return gaps


def _summary(name: str, stage: str, rows: list[Row]) -> StageSummary:
    words = [row.verdict for row in rows if row.stage == stage]
    return StageSummary(
        pipeline=name,
        name=stage,
        doc=_DOCS.get(stage, f"module {stage}"),
        unit="",
        isolated=None,
        chained=worst(words),
    )
