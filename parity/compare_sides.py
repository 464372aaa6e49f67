"""Two recordings held against one another: matched, compared, judged, put into results that every report can show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from textwrap import shorten
from typing import Any

from parity.compare_structure import compare_settings
from parity.comparison import Drift
from parity.matching import Ambiguity, Match, Matching, Pass, match
from parity.matching_map import Names, spoken_of
from parity.noise import C, Floors, widen
from parity.recording import Recording
from parity.rows import allowance, figures_of
from parity.schema import Finding, FloorEvidence, Goldens, Results, Row, Skipped, StageSummary
from parity.side import entries_of
from parity.summary import stored_tensor
from parity.verdict import SAME, Verdict, exit_code, judge, overall, worst
from parity.wording import listed

PIPELINE, VARIANT = "recording", "recorded"
_MOST_STAGES = 30
_listed = partial(listed, most=12)  # names in one sentence


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How two recordings are held against one another.

    names: reference name -> candidate name, see `matching.read_map`. floors: reference name -> measured noise floor.
    floor_source: where those come from. noise_runs: how many repetitions made them, 0 unknown. partial: what only one
    side holds is listed, not judged.
    """

    names: Names = field(default_factory=dict)
    floors: Floors = field(default_factory=dict)
    floor_source: str = "none given"
    noise_runs: int = 0
    partial: bool = False
    command: str = ""


def floors_of(reference: Recording, runs: Sequence[Recording], known: Floors | None = None) -> Floors:
    """The noise floor that harmless repetitions of the reference show: the largest drift of each tensor, or `known`."""
    floors: Floors = dict(known or {})
    for run in runs:
        for name in reference.tensors.keys() & run.tensors.keys():
            value = stored_tensor(run.tensors[name])
            if value is not None:
                widen(floors, name, reference.compare(name, value))
    return floors


def compare_recordings(reference: Recording, candidate: Recording, terms: Terms) -> tuple[Results, Matching]:
    """Match, compare and judge; nothing is decided anywhere else.

    Raises:
        ValueError: a map of names that does not fit.
    """
    matching = match(entries_of(reference), entries_of(candidate), terms.names)
    stages = _stages([pair.reference for pair in matching.matches])
    rows = [_row(reference, candidate, pair, stages, terms) for pair in matching.matches]
    findings = [*_matching_findings(matching, terms.partial), *compare_settings(reference, candidate, matching)]
    words = [row.verdict for row in rows] + [finding.verdict for finding in findings]
    first = first_difference(rows)
    results = Results(
        answer=_answer(rows, findings, matching, first) + _unmatched(matching, terms.partial) + _rests(terms, rows),
        verdict=overall(words),
        exit_code=exit_code(words),
        first_divergence=first.id if first else None,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=terms.command,
        scope=_scope(reference, candidate, matching),
        environment=_environments(reference, candidate),
        stages=[_summary(name, rows) for name in dict.fromkeys(stages.values())],
        rows=rows,
        structure=findings,
        draws={},
        pictures=[],
        frames=[],
        skipped=_skipped(reference, candidate, matching, terms.partial),
        known=[],
        goldens=Goldens(state="not compared", path="", detail="two recordings were compared"),
        floor=FloorEvidence(source=terms.floor_source, draws=terms.noise_runs, c=C, detail=f"bound = {C:g} x floor"),
        timings={},
        resources={},
    )
    return results, matching


def first_difference(rows: Sequence[Row]) -> Row | None:
    """The first drift in order of calls, else the first difference that no floor explains."""
    drift = next((row for row in rows if row.verdict is Verdict.DRIFT), None)
    return drift or next((row for row in rows if row.verdict not in SAME), None)


def _row(reference: Recording, candidate: Recording, pair: Match, stages: Mapping[str, str], terms: Terms) -> Row:
    value = stored_tensor(candidate.tensors[pair.candidate])
    floor, stage = terms.floors.get(pair.reference), stages[pair.reference]
    if value is None:
        drift, verdict, reason = _unseen(reference, pair), Verdict.MISSING, "the candidate kept only a summary of it"
    else:
        drift = reference.compare(pair.reference, value)
        verdict, reason = judge(drift, floor)
    how = "" if pair.by == "exact" else f"; {pair.by} match with {pair.candidate}"
    return Row(
        id=f"{PIPELINE}/{pair.reference}",
        pipeline=PIPELINE,
        stage=stage,
        tensor=pair.reference.removeprefix(stage).lstrip("./"),
        mode="chained",
        variant=VARIANT,
        step=int(pair.reference.rpartition("@")[2]) if "@" in pair.reference else 0,
        verdict=verdict,
        reason=reason + how,
        unit="",
        repeat=terms.command,
        **figures_of(drift),
        **allowance(floor, C),
    )


def _unseen(reference: Recording, pair: Match) -> Drift:
    about = reference.manifest["tensors"][pair.reference]
    return Drift(shape=tuple(about["shape"]), dtype=about["dtype"], structural="", bitwise=False, count=0, differing=0)


def _stages(names: Sequence[str]) -> dict[str, str]:
    """Name -> stage: as many leading parts of the module's path as keep the list of stages readable."""
    heads = [name.partition("/")[0].split(".") for name in names]
    for depth in (4, 3, 2, 1):
        stages = [".".join(head[:depth]) for head in heads]
        if len(set(stages)) <= _MOST_STAGES:
            break
    return dict(zip(names, stages, strict=True))


def _summary(stage: str, rows: Sequence[Row]) -> StageSummary:
    own = [row for row in rows if row.stage == stage]
    doc = f"{len(own)} tensor{'s' * (len(own) != 1)}"
    chained = worst(row.verdict for row in own)
    return StageSummary(pipeline=PIPELINE, name=stage, doc=doc, unit="", isolated=None, chained=chained)


def _matching_findings(matching: Matching, partial: bool) -> list[Finding]:
    passes = ", ".join(f"{matching.count(by)} {how}" for by, how in _PASSES.items() if matching.count(by))
    found = [Finding(name="matched", verdict=_matched(matching), detail=passes or "nothing matches")]
    for side, names in (("reference", matching.only_reference), ("candidate", matching.only_candidate)):
        if names and not partial:
            found.append(Finding(name=f"only in the {side}", verdict=Verdict.MISSING, detail=_listed(names)))
    details = dict.fromkeys(map(_unclear, matching.ambiguous))  # later steps and moments say the same once more
    return found + [Finding(name="ambiguous", verdict=Verdict.MISSING, detail=detail) for detail in details]


def _unclear(found: Ambiguity) -> str:
    one, other = (list(dict.fromkeys(map(spoken_of, names))) for names in (found.reference, found.candidate))
    if len(one) == len(other) == 1:
        line = f'"{one[0]}": "{other[0]}"'
        return f"{one[0]} and {other[0]} share their shape, which is no proof; the line {line} of --map pairs them"
    return f"{_listed(one)} may each be any of {_listed(other)} by their shapes; lines of --map must say which"


_PASSES: Mapping[Pass, str] = {"manual": "by the map", "exact": "by equal names", "structural": "by structure"}


def _matched(matching: Matching) -> Verdict:
    return Verdict.IDENTICAL if matching.matches else Verdict.MISSING


def _unmatched(matching: Matching, partial: bool) -> str:
    """How much was compared with nothing, for the answer; "" where all was, or was left out on purpose."""
    left = [matching.only_reference, matching.only_candidate]
    for place, side in enumerate(("reference", "candidate")):
        left[place] = [*([] if partial else left[place]), *(n for a in matching.ambiguous for n in getattr(a, side))]
    counts = [len(names) for names in left]
    return f" Unmatched: {counts[0]} tensors of the reference, {counts[1]} of the candidate." if any(counts) else ""


def _rests(terms: Terms, rows: Sequence[Row]) -> str:
    """What the floor rests on, for the answer: too few runs make drift of what is noise."""
    if not terms.noise_runs or all(row.bitwise for row in rows):
        return ""
    if terms.noise_runs == 1:
        return " The floor rests on 1 noise recording, which is one draw of chance: more of them may explain more."
    return f" The floor rests on {terms.noise_runs} noise recordings."


def _answer(rows: Sequence[Row], findings: Sequence[Finding], matching: Matching, first: Row | None) -> str:
    same, all_ = sum(row.verdict is Verdict.IDENTICAL for row in rows), len(rows)
    if not rows:
        return "Cannot tell: no tensor of one recording matches one of the other."
    broken = [finding for finding in findings if finding.verdict is Verdict.DRIFT]
    if first and first.verdict is Verdict.DRIFT:
        also = "".join(
            f" {each.name.capitalize()}: {shorten(each.detail, 200, placeholder=' ...')}." for each in broken
        )
        where = f"{first.stage}/{first.tensor} ({first.reason})"
        return f"No: the candidate departs at {where}; {same} of {all_} are equal.{also}"
    if broken:
        names = ", ".join(finding.name for finding in broken)
        return f"No: {same} of {all_} tensors are the same bytes, but the settings differ ({names})."
    if first:
        differ = sum(row.verdict not in SAME for row in rows)
        where = f"{first.stage}/{first.tensor}"
        size = f", relative L2 {first.rel_l2:.1e}" if first.rel_l2 is not None else ""
        return (
            f"Cannot tell: {differ} of {all_} tensors differ with no floor to hold them against, first {where}{size}."
        )
    left = len(matching.only_reference) + len(matching.only_candidate) + len(matching.left_out)
    if doubt := dict.fromkeys(finding.name for finding in findings if finding.verdict is Verdict.MISSING):
        return f"Cannot tell: what was matched agrees ({all_} tensors), but not all was matched ({', '.join(doubt)})."
    scope = f"; {left} tensors of one side only were left out as asked" if left else ""
    if same == all_:
        return f"Yes: all {all_} tensors are the same bytes{scope}."
    return (
        f"Yes, up to rounding: {same} of {all_} tensors are the same bytes, the rest within {C:g} x the floor{scope}."
    )


def _scope(reference: Recording, candidate: Recording, matching: Matching) -> dict[str, Any]:
    about = [recording.manifest.get("about", {}) for recording in (reference, candidate)]
    titles = [str(recording.manifest["subject"]) for recording in (reference, candidate)]
    last = max(
        (int(pair.reference.rpartition("@")[2]) for pair in matching.matches if "@" in pair.reference), default=0
    )
    return {
        "sides": f"{titles[0]} against {titles[1]}",
        "seed": _both(*(str(part.get("seed", "not recorded")) for part in about)),
        "steps": last + 1,
        "random states": _random_states(reference, candidate),
    }


def _random_states(reference: Recording, candidate: Recording) -> str:
    one, other = (recording.manifest["structure"].get("rng") for recording in (reference, candidate))
    if not one or not other:
        return "not recorded on both sides"
    moments = [moment for moment in one if moment in other]
    shared = {moment: sorted(one[moment].keys() & other[moment].keys()) for moment in moments}
    differ = {moment: [g for g in names if one[moment][g] != other[moment][g]] for moment, names in shared.items()}
    first = next((moment for moment in moments if differ[moment]), None)
    return f"first differ at: {first} ({', '.join(differ[first])})" if first else "equal at every recorded moment"


def _environments(reference: Recording, candidate: Recording) -> dict[str, str]:
    one, other = (recording.manifest.get("environment", {}) for recording in (reference, candidate))
    return {name: _both(one.get(name, "-"), other.get(name, "-")) for name in sorted({*one, *other})}


def _both(one: str, other: str) -> str:
    return one if one == other else f"{one} against {other}"


def _skipped(reference: Recording, candidate: Recording, matching: Matching, partial: bool) -> list[Skipped]:
    found = []
    for side, names in (("reference", matching.only_reference), ("candidate", matching.only_candidate)):
        if names and partial:
            found.append(Skipped(what=_listed(names), why=f"only the {side} has it, and --partial leaves it out"))
    if matching.left_out:
        found.append(Skipped(what=_listed(matching.left_out), why="the map gives it no counterpart"))
    for recording in (reference, candidate):
        for note in recording.manifest["structure"].get("not_recorded", ()):
            found.append(Skipped(what=note, why=f"not recorded by {recording.manifest['subject']}"))
    return found
