"""From evidence to results: verdicts, the answer in one sentence, stage strip, pictures, what was skipped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import torch

from parity import observer
from parity.audit import Evidence, legacy_digest, legacy_tree
from parity.batch import load_batch
from parity.causes import covered
from parity.checkout import label
from parity.environment import fingerprint, platform_key
from parity.files import ROOT
from parity.gallery import pictures_of
from parity.located import Located
from parity.noise import DRAWS, C
from parity.pipelines import PIPELINES
from parity.report.pictures import frame
from parity.rows import born_there, first_divergence, make_rows, stage_words
from parity.schema import Finding, FloorEvidence, Goldens, Known, Results, Row, Skipped, StageSummary
from parity.split import split_errors
from parity.stages import Pipeline, Stage
from parity.structure import StructuralFinding
from parity.verdict import Verdict, exit_code, overall

FULL_ONLY = "only with --full"
# A platform without goldens still has the live comparison; one that cannot be trusted is said and mended.
GOLDEN_WORDS = {
    "compared": Verdict.IDENTICAL,
    "missing": Verdict.NOT_EXERCISED,
    "stale": Verdict.MISSING,
    "corrupt": Verdict.ERROR,
}


def assemble(
    evidence: Sequence[Evidence],
    *,
    command: str,
    timings: dict[str, float],
    skipped: Sequence[Skipped] = (),
    stages: Mapping[str, Sequence[str]] | None = None,
    culprit: Located | None = None,
    culprit_note: str = "",
) -> Results:
    """Judge all variants together; `stages` (by pipeline) narrows the rows that are shown and judged."""
    every = [row for part in evidence for row in make_rows(part)]
    rows = [row for row in every if stages is None or row.stage in stages[row.pipeline]]
    findings = [(part, finding) for part in evidence for finding in part.structure]
    words = [row.verdict for row in rows] + [finding.verdict for _, finding in findings]
    words += [GOLDEN_WORDS[part.golden.state] for part in evidence]
    first, scope, goldens = first_divergence(rows), _scope(evidence), _goldens(evidence)
    said = answer(scope, rows, [finding for _, finding in findings], goldens)
    return Results(
        answer=f"{said} {culprit.sentence}" if culprit and first else said,
        verdict=overall(words),
        exit_code=exit_code(words),
        first_divergence=first.id if first else None,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        scope=scope,
        environment=dict(sorted({**fingerprint(), "legacy": _legacy(scope["legacy"], evidence)}.items())),
        stages=[_summary(pipeline, stage, rows) for pipeline in _pipelines(evidence) for stage in pipeline.stages],
        rows=rows,
        structure=[
            Finding(name=f"{part.variant}: {finding.name}", verdict=finding.verdict, detail=finding.detail)
            for part, finding in findings
        ],
        draws={
            f"{trace.subject} ({part.variant})": trace.draws
            for part in evidence
            for trace in (part.legacy, part.modern)
        },
        pictures=pictures_of(evidence),
        frames=_frames(evidence[0]),
        skipped=[*skipped, *_not_covered(evidence)],
        known=[_known(finding) for _, finding in findings if finding.known],
        goldens=goldens,
        floor=FloorEvidence(
            source="; ".join(sorted({part.floor_source for part in evidence})),
            draws=DRAWS,
            c=C,
            detail=f"largest drift of legacy against itself under {_noise(evidence)}; bound = {C:g} x floor",
        ),
        timings=timings,
        resources={
            f"{trace.subject} ({part.variant})": trace.resources
            for part in evidence
            for trace in (part.legacy, part.modern)
        },
        culprit=culprit,
        culprit_note=culprit_note,
        errors=split_errors(every),
    )


def answer(
    run: Mapping[str, Any],
    rows: Sequence[Row],
    findings: Sequence[StructuralFinding | Finding],
    goldens: Goldens,
    c: float = C,
) -> str:
    """One sentence: same or not, how that is known, and where it first departs; `run` is the results' scope."""
    claims = [row for row in rows if row.mode in ("isolated", "chained")]
    same = sum(row.verdict is Verdict.IDENTICAL for row in claims)
    scope = f"on {run['batch']}, {run['steps']} training step{'s' * (run['steps'] > 1)}, {run['device']}"
    culprit = first_divergence(rows)
    if culprit:
        kind = "born there" if born_there(culprit, rows) else f"seen {culprit.mode}"
        return (
            f"No: modern departs from legacy at {culprit.stage} ({culprit.tensor}, {kind}: {culprit.reason}) {scope}."
        )
    broken = [finding.name for finding in findings if finding.verdict is Verdict.DRIFT]
    if broken and all(name.startswith(observer.PREFIX) for name in broken):
        return f"No: the audit's own taps change what they observe ({', '.join(broken)}) {scope}."
    if broken:
        return f"No: the numbers agree, but the structure differs ({', '.join(broken)}) {scope}."
    unclear = (Verdict.UNSTABLE, Verdict.MISSING, Verdict.ERROR)
    words = [*(row.verdict for row in rows), *(finding.verdict for finding in findings)]
    doubts = Counter(word for word in words if word in unclear)
    if doubts:
        listed = ", ".join(f"{count} {word}" for word, count in doubts.items())
        return f"Cannot tell: {listed} among {len(words)} comparisons {scope}."
    if goldens["state"] in ("stale", "corrupt"):
        return f"Cannot tell: {goldens['detail']}"
    if not claims:
        return f"Cannot tell: nothing was compared {scope}."
    if same == len(claims):
        return (
            f"Yes: modern gives the same bytes as legacy in all {same} comparisons {scope}; each side repeats itself."
        )
    earliest = next(row for row in claims if row.verdict is not Verdict.IDENTICAL)
    return (
        f"Yes, up to rounding: {same} of {len(claims)} comparisons are the same bytes, the rest within "
        f"{c:g} x the noise floor, first at {earliest.stage} ({earliest.tensor}) {scope}; both repeat themselves."
    )


def _scope(evidence: Sequence[Evidence]) -> dict[str, Any]:
    spec, batch = evidence[0].spec, load_batch(evidence[0].spec.batch)
    return {
        "device": spec.device,
        "platform": platform_key(spec.device),
        "isa": torch.backends.cpu.get_cpu_capability(),
        "threads": spec.threads,
        "deterministic": True,
        "torch": torch.__version__,
        "batch": spec.batch,
        "batch_source": batch.source,
        "batch_digest": batch.digest,
        "raster": 224,
        "seed": spec.seed,
        "steps": spec.steps,
        "pipelines": ", ".join(pipeline.name for pipeline in _pipelines(evidence)),
        "variants": ", ".join(f"{part.variant} (dropout {part.spec.dropout:g})" for part in evidence),
        "weights": f"seeded by name, prefix {spec.weights_prefix!r}",
        "legacy": "; ".join(dict.fromkeys(_tree(part) for part in evidence)),
        **(
            {"legacy_root": spec.legacy_root, "sides": f"{spec.legacy_root} against modern"} if spec.legacy_root else {}
        ),
    }


def _tree(part: Evidence) -> str:
    """The legacy tree of a run and the digest of its sources."""
    if part.spec.legacy_root:
        return label(part.spec.legacy_root)
    return f"{legacy_tree(part.spec).relative_to(ROOT)}, the reconstruction (content {legacy_digest(part.spec)[:16]})"


def _legacy(trees: str, evidence: Sequence[Evidence]) -> str:
    """Which `trees` were audited, and on which one the floors were measured that differences are held against."""
    measured = sorted({part.floor_tree for part in evidence} - {""})
    return f"{trees}, floors " + (f"measured on {' and '.join(measured)}" if measured else "not needed")


def _pipelines(evidence: Sequence[Evidence]) -> list[Pipeline]:
    return [PIPELINES[name] for name in dict.fromkeys(part.spec.pipeline for part in evidence)]


def _summary(pipeline: Pipeline, stage: Stage, rows: Sequence[Row]) -> StageSummary:
    isolated, chained = stage_words(rows, pipeline.name, stage.name)
    return StageSummary(
        pipeline=pipeline.name,
        name=stage.name,
        doc=stage.doc,
        unit=stage.unit,
        isolated=isolated,
        chained=chained,
    )


def _frames(first: Evidence) -> list[Any]:
    batch = load_batch(first.spec.batch)
    return [frame(name, image.numpy()) for name, image in zip(batch.frame_names, batch.image, strict=True)]


def _noise(evidence: Sequence[Evidence]) -> str:
    words = f"{DRAWS} one-ULP perturbations"
    causes = ", ".join(cause.name for cause in covered(evidence[0].spec.device))
    return f"{words} and in fresh processes with {causes}" if causes else words


def _known(finding: StructuralFinding) -> Known:
    entry = finding.known
    assert entry is not None
    return Known(
        id=entry.id,
        stage=entry.stage,
        bound=f"legacy {entry.legacy}, modern {entry.modern}",
        reason=entry.reason,
        since=entry.since,
        verdict=finding.verdict,
        figure=finding.detail if finding.verdict is Verdict.DRIFT else "exactly as registered",
    )


def _goldens(evidence: Sequence[Evidence]) -> Goldens:
    states = {part.variant: part.golden for part in evidence}
    worst_state = next((state for state in states.values() if state.state != "compared"), next(iter(states.values())))
    detail = "; ".join(f"{variant}: {state.detail}" for variant, state in states.items())
    return Goldens(state=worst_state.state, path=worst_state.path, detail=detail)


def _not_covered(evidence: Sequence[Evidence]) -> list[Skipped]:
    spec, gaps = evidence[0].spec, []
    if spec.steps == 1:
        gaps.append(Skipped(what="steps after the first", why=FULL_ONLY))
        why = f"{FULL_ONLY}; here each side ran twice in its process, once without taps"
        gaps.append(Skipped(what="repeat in a fresh process", why=why))
    if spec.device == "cpu":
        why = "no CUDA device" if not torch.cuda.is_available() else "not asked for (--device cuda)"
        gaps.append(
            Skipped(what="GPU: atomics, TF32, cuDNN algorithm choice", why=f"{why}; a CPU run says nothing of them")
        )
    if spec.threads == 1:
        gaps.append(
            Skipped(what="races between CPU threads", why="one thread, deterministic algorithms on: cannot occur")
        )
    return gaps
