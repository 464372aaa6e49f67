"""What the outcomes say about the audit: caught, placed, missed, false alarm; decided here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from parity.pipelines import PIPELINES
from parity.selftest.bug import Bug
from parity.selftest.harmless import Harmless
from parity.selftest.mutation import readers
from parity.selftest.outcome import Cell, Outcome
from parity.selftest.planting import MODERN
from parity.verdict import Verdict

DETECTORS = (
    "forward replay",
    "gradient replay",
    "update replay",
    "several updates",
    "side effects",
    "step",
    "structure",
)


class Fate(StrEnum):
    """What became of a bug or of a harmless variant."""

    PLACED = "placed"
    BELOW = "below resolution"
    MISPLACED = "misplaced"
    MISSED = "missed"
    VISIBLE = "visible after all"
    QUIET = "quiet"
    ALARM = "false alarm"
    NOT_EXERCISED = "not exercised"


GOOD = frozenset({Fate.PLACED, Fate.BELOW, Fate.QUIET, Fate.NOT_EXERCISED})


@dataclass(frozen=True, kw_only=True)
class BugResult:
    """One bug: what was expected, what the audit said.

    expected, suspects: functions as `file:function`. ratio: effect at its own stage in noise floors, None if the stage
    was not reached. seen: detector -> `found`, `quiet` or `not run`. function_named is None where nobody was named.
    """

    id: str
    seed: int
    pipeline: str
    variant: str
    kind: str
    stage: str
    change: str
    fate: Fate
    reason: str
    named: str
    mode: str
    expected: list[str]
    suspects: list[str]
    by: str
    module_named: bool | None
    function_named: bool | None
    ratio: float | None
    rel_l2: float | None
    seen: dict[str, str]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class HarmlessResult:
    """One harmless variant; largest: the largest ratio to a noise floor, at stage `where`."""

    id: str
    seed: int
    pipeline: str
    kind: str
    change: str
    fate: Fate
    reason: str
    largest: float | None
    where: str
    compared: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Tail:
    """Both tails of one stage, isolated: the largest ratio of a harmless variant, the smallest of a placed bug.

    smallest_error: relative error of all its outputs that is just seen, None if it was not measured.
    """

    pipeline: str
    stage: str
    harmless: float | None
    harmless_id: str
    bug: float | None
    bug_id: str
    smallest_error: float | None = None


@dataclass(frozen=True, kw_only=True)
class SelfTest:
    """A whole self-test. exit_code: 0 as it should be, 1 not, 2 cannot tell."""

    answer: str
    exit_code: int
    created: str
    command: str
    c: float
    environment: dict[str, str]
    bugs: list[BugResult]
    harmless: list[HarmlessResult]
    tails: list[Tail]
    seconds: float
    failures: list[str] = field(default_factory=list)


def judge_bug(bug: Bug, outcome: Outcome, seed: int = 0) -> BugResult:
    """Whether a bug was caught and placed.

    A bug is below resolution if nothing is worse than rounding: its effect at its own stage is at most c floors. Only
    one that is declared so may be: otherwise a loose bound would turn every miss into a pass.
    """
    own = [cell for cell in outcome.at(bug.stage) if cell.mode != "chained"] or outcome.at(bug.stage)
    worst = max(own, key=lambda cell: cell.ratio, default=None)
    expected = sorted({*outcome.spots, *bug.manifest, *_readers(bug)})
    suspects = outcome.named.functions if outcome.named else []
    named = outcome.named.stage if outcome.named else ""
    fate, reason = _fate(bug, outcome, worst)
    files = {place.partition(":")[0] for place in expected}
    told = bool(suspects)
    return BugResult(
        id=bug.id,
        seed=seed,
        pipeline=bug.pipeline,
        variant=bug.variant,
        kind=bug.kind,
        stage=bug.stage,
        change="; ".join(f"{edit.file}: {_short(edit.old)} → {_short(edit.new)}" for edit in bug.edits),
        fate=fate,
        reason=reason,
        named=named,
        mode=outcome.named.mode if outcome.named else "",
        expected=expected,
        suspects=suspects,
        by=outcome.named.by if outcome.named else "",
        module_named=any(place.partition(":")[0] in files for place in suspects) if told else None,
        function_named=bool(set(expected) & set(suspects)) if told else None,
        ratio=worst.ratio if worst else None,
        rel_l2=worst.rel_l2 if worst else None,
        seen=_seen(outcome, bug.pipeline),
        seconds=outcome.seconds,
    )


def _fate(bug: Bug, outcome: Outcome, worst: Cell | None) -> tuple[Fate, str]:
    if outcome.named:
        if bug.below:
            return Fate.VISIBLE, "declared below resolution, but seen: declare it no longer"
        if outcome.named.stage == bug.stage:
            return Fate.PLACED, f"{outcome.named.mode} at {bug.stage}"
        return Fate.MISPLACED, f"placed at {outcome.named.stage}, expected {bug.stage}"
    if outcome.noticed:
        found = "; ".join(outcome.structure) or "a difference without a floor"
        return Fate.MISPLACED, f"noticed, but no stage is named: {found}"
    effect = f"{worst.ratio:.2g} floors at {bug.stage}" if worst else f"no difference reaches {bug.stage}"
    if bug.below:
        return Fate.BELOW, f"{effect}: {bug.below}"
    return Fate.MISSED, f"{effect}, and it is not declared below resolution"


def judge_harmless(item: Harmless, outcome: Outcome | None, seed: int = 0) -> HarmlessResult:
    """Whether a harmless variant was let through; `outcome` is None where it could not be exercised."""
    worst = max(outcome.cells, key=lambda cell: cell.ratio, default=None) if outcome else None
    if outcome is None:
        fate, reason = Fate.NOT_EXERCISED, item.missing
    elif outcome.noticed:
        bad = [cell for cell in outcome.cells if cell.verdict not in (Verdict.IDENTICAL, Verdict.ROUNDING)]
        told = [f"{cell.stage}/{cell.tensor} ({cell.mode}) {cell.ratio:.2g} floors" for cell in bad]
        fate, reason = Fate.ALARM, "; ".join([*told, *outcome.structure])
    else:
        fate, reason = Fate.QUIET, "same bytes" if not outcome.largest else f"at most {outcome.largest:.2g} floors"
    variables = " ".join(f"{key}={value}" for key, value in item.environment)
    edits = "; ".join(f"{edit.file}: {_short(edit.old)} → {_short(edit.new)}" for edit in item.edits)
    return HarmlessResult(
        id=item.id,
        seed=seed,
        pipeline=item.pipeline,
        kind=item.kind,
        change=item.setting or variables or edits,
        fate=fate,
        reason=reason,
        largest=outcome.largest if outcome else None,
        where=f"{worst.stage}/{worst.tensor}" if worst and worst.ratio else "",
        compared=len(outcome.cells) if outcome else 0,
        seconds=outcome.seconds if outcome else 0.0,
    )


def tails(
    bugs: Sequence[BugResult], harmless: Iterable[tuple[Harmless, Outcome]], smallest: dict[tuple[str, str], float]
) -> list[Tail]:
    """Both tails of every stage, in pipeline order."""
    noise: dict[tuple[str, str], tuple[float, str]] = {}
    for item, outcome in harmless:
        for cell in outcome.cells:
            if cell.mode in ("isolated", "repeated"):
                key = (item.pipeline, cell.stage)
                noise[key] = max(noise.get(key, (0.0, "")), (cell.ratio, item.id))
    signal: dict[tuple[str, str], tuple[float, str]] = {}
    for bug in bugs:
        if bug.fate is Fate.PLACED and bug.ratio:
            key = (bug.pipeline, bug.stage)
            signal[key] = min(signal.get(key, (float("inf"), bug.id)), (bug.ratio, bug.id))
    found = []
    for pipeline in PIPELINES.values():
        for stage in pipeline.names:
            key = (pipeline.name, stage)
            low, high = noise.get(key), signal.get(key)
            if low or high or key in smallest:
                found.append(
                    Tail(
                        pipeline=pipeline.name,
                        stage=stage,
                        harmless=low[0] if low else None,
                        harmless_id=low[1] if low else "",
                        bug=high[0] if high else None,
                        bug_id=high[1] if high else "",
                        smallest_error=smallest.get(key),
                    )
                )
    return found


def all_of(bugs: Iterable[BugResult], harmless: Iterable[HarmlessResult]) -> list[BugResult | HarmlessResult]:
    """Both kinds of results in one list."""
    return [*bugs, *harmless]


def failures(bugs: Iterable[BugResult], harmless: Iterable[HarmlessResult]) -> list[str]:
    """What is not as it should be, in words."""
    return [
        f"{item.id}{f' (seed {item.seed})' if item.seed else ''}: {item.fate}, {item.reason}"
        for item in all_of(bugs, harmless)
        if item.fate not in GOOD
    ]


def answer(bugs: Sequence[BugResult], harmless: Sequence[HarmlessResult]) -> str:
    """One sentence on the audit."""
    wrong = failures(bugs, harmless)
    visible = [bug for bug in bugs if bug.fate is not Fate.BELOW]
    placed = sum(bug.fate is Fate.PLACED for bug in visible)
    exercised = [item for item in harmless if item.fate is not Fate.NOT_EXERCISED]
    alarms = sum(item.fate is Fate.ALARM for item in exercised)
    if not visible and not exercised:
        return "Cannot tell: nothing was planted."
    caught = f"{placed} of {len(visible)} planted bugs caught at the right stage" if bugs else "no bug planted"
    scope = f"{caught}, {alarms} false alarms"
    scope += f" among {len(exercised)} harmless variants; {len(bugs) - len(visible)} bugs below resolution"
    return f"{'No' if wrong else 'Yes'}: {scope}."


def exit_code(bugs: Sequence[BugResult], harmless: Sequence[HarmlessResult]) -> int:
    """0 as it should be, 1 not, 2 nothing was exercised."""
    if failures(bugs, harmless):
        return 1
    done = [item for item in all_of(bugs, harmless) if item.fate in (Fate.PLACED, Fate.QUIET)]
    return 0 if done else 2


def alarm_rate(harmless: Iterable[HarmlessResult]) -> tuple[int, int, float]:
    """False alarms, comparisons, and the upper 95 % confidence bound of their rate (Clopper and Pearson)."""
    from scipy.stats import beta

    items = [item for item in harmless if item.fate is not Fate.NOT_EXERCISED]
    count, wrong = sum(item.compared for item in items), sum(item.fate is Fate.ALARM for item in items)
    return wrong, count, float(beta.ppf(0.95, wrong + 1, count - wrong)) if count > wrong else 1.0


def _seen(outcome: Outcome, pipeline: str) -> dict[str, str]:
    found = dict.fromkeys(DETECTORS, "not run")
    for cell in outcome.cells:
        name = _detector(cell, pipeline)
        bad = cell.verdict not in (Verdict.IDENTICAL, Verdict.ROUNDING)
        found[name] = "found" if bad or found[name] == "found" else "quiet"
    if any(cell.mode == "isolated" for cell in outcome.cells) and found["side effects"] == "not run":
        found["side effects"] = "quiet"
    if outcome.stepped:
        found["structure"] = "found" if outcome.structure else "quiet"
    return found


def _detector(cell: Cell, pipeline: str) -> str:
    if cell.mode == "chained":
        return "step"
    if cell.mode != "isolated":
        return {"repeated": "several updates", "side effect": "side effects"}[cell.mode]
    stage = PIPELINES[pipeline].by_name[cell.stage]
    if stage.gradients:
        return "update replay"
    return "gradient replay" if stage.name.endswith(("gradients", "cotangent")) else "forward replay"


def _readers(bug: Bug) -> set[str]:
    return {f"{edit.file}:{name}" for edit in bug.edits for name in readers(MODERN / edit.file, edit)}


def _short(text: str, limit: int = 90) -> str:
    """Source in one line."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
