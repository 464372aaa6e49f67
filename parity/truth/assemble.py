"""From distances to words, once: rows, the answer in one sentence, the exit code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from parity.noise import C
from parity.truth.schema import TruthRow, Word
from parity.truth.statistics import MIN_INPUTS, Finding, judge, median_ratio

# Halfway, in digits, between a float32 rounding error and one of float64 (24 and 53 bits). Two truths nearer to each
# other than this are one truth for all that R can show; a formula or constant that differs stands out by far more.
HALFWAY = 2.0**-14.5
UNIT = 2.0**-24


@dataclass(kw_only=True)
class Distances:
    """All inputs of one quantity. `truths` has an entry per input for which both truths were computed."""

    legacy: list[float] = field(default_factory=list)
    modern: list[float] = field(default_factory=list)
    bitwise: int = 0
    flips: int = 0
    truths: list[float] = field(default_factory=list)
    narrow: set[str] = field(default_factory=set)


Key = tuple[str, str, str]  # pipeline, stage, quantity


def collect(
    pipeline: str, inputs: Sequence[Mapping[str, Any]]
) -> tuple[dict[Key, Distances], dict[tuple[str, str], str]]:
    """Join the stored results of all inputs: distances by key, and problems by (pipeline, stage)."""
    found: dict[Key, Distances] = {}
    problems: dict[tuple[str, str], str] = {}
    for stages in inputs:
        for stage, result in stages.items():
            if result["problem"]:
                problems[pipeline, stage] = result["problem"]
            for quantity, pair in result["pairs"].items():
                own = found.setdefault((pipeline, stage, quantity), Distances())
                own.legacy.append(pair["legacy"])
                own.modern.append(pair["modern"])
                own.bitwise += pair["bitwise"]
                own.flips += result["flips"]
                own.narrow |= set(result["narrow"])
                own.truths += [] if pair["truths"] is None else [pair["truths"]]
    return {key: own for key, own in found.items() if key[:2] not in problems}, problems


def make_rows(found: Mapping[Key, Distances], problems: Mapping[tuple[str, str], str]) -> list[TruthRow]:
    """Judge everything together, so that Holm's adjustment covers the whole run."""
    errors = {"/".join(key): (own.legacy, own.modern) for key, own in found.items()}
    bitwise = {"/".join(key) for key, own in found.items() if own.bitwise == len(own.legacy)}
    findings = judge(errors, bitwise)
    rows = [_row(key, own, findings["/".join(key)]) for key, own in found.items()]
    return rows + [_broken(pipeline, stage, problem) for (pipeline, stage), problem in problems.items()]


def with_floor(row: TruthRow, floor: float) -> TruthRow:
    """A row that is farther fails if its error exceeds what legacy's own noise allows: C times its noise floor."""
    size = median(row.modern)
    fails = size > C * floor
    said = f"{size:.1e} is {'beyond' if fails else 'within'} {C:g} x the noise floor {floor:.1e}"
    return replace(row, floor=floor, fails=fails, reason=f"{row.reason}; {said}")


def allowed_between_truths(legacy: Sequence[float], modern: Sequence[float]) -> float:
    """How far two float64 runs of the same formula may be apart.

    The smaller of both sides' errors counts: against the truth of a wrong formula the other side's error is large.
    """
    return HALFWAY * max(UNIT, *(min(pair) for pair in zip(legacy, modern, strict=True)))


def exit_code(rows: Sequence[TruthRow]) -> int:
    """0 modern is as right as legacy, 1 it is not, 2 cannot tell (docs/truth.md)."""
    if any(row.fails for row in rows):
        return 1
    undecided = any(row.word is Word.ERROR or too_few(row) for row in rows)
    return 2 if undecided or not rows else 0


def too_few(row: TruthRow) -> bool:
    """Whether errors differ and the inputs do not suffice to compare them."""
    return row.word is Word.SAME_SIZE and row.inputs < MIN_INPUTS


def answer(rows: Sequence[TruthRow]) -> str:
    """One sentence."""
    if not rows:
        return "Cannot tell: nothing was compared with truth."
    count = {word: [row for row in rows if row.word is word] for word in Word}
    if wrong := count[Word.OTHER_FORMULA]:
        first = wrong[0]
        return (
            f"No: in float64 modern's {first.stage} ({first.quantity}) still differs from legacy's by "
            f"{first.truths:.1e}: another formula, not rounding."
        )
    if bad := [row for row in rows if row.fails]:
        first = bad[0]
        where = f"modern's {first.stage} ({first.quantity})"
        return f"No: {where} is farther from truth, R = {first.ratio:.2g}; {first.reason}."
    if broken := count[Word.ERROR]:
        return f"Cannot tell: {broken[0].stage} could not be computed ({broken[0].reason})."
    if few := [row for row in rows if too_few(row)]:
        return f"Cannot tell yet: {len(few)} of {len(rows)} quantities differ, and {few[0].reason}."
    if len(count[Word.SAME_ERROR]) == len(rows):
        return f"Modern is exactly as far from truth as legacy in all {len(rows)} quantities: the same bytes, R = 1."
    parts = ", ".join(f"{len(found)} {word}" for word, found in count.items() if found)
    return f"Nowhere is modern farther from truth than legacy's noise allows: of {len(rows)} quantities {parts}."


def _row(key: Key, own: Distances, finding: Finding) -> TruthRow:
    word, reason = finding.word, finding.reason
    allowed = allowed_between_truths(own.legacy, own.modern)
    truths = max(own.truths, default=None)
    if not any(own.legacy) and not any(own.modern):
        reason += "; both are exactly truth: nothing is rounded here"
    if own.flips:
        reason += f"; {own.flips} pixels with another face left out"
    if own.narrow:
        reason += f"; truth is not all float64: {', '.join(sorted(own.narrow))}"
    other = truths is not None and truths > allowed
    if other:
        word, reason = (
            Word.OTHER_FORMULA,
            f"the two codes differ by {truths:.1e} in float64, rounding explains {allowed:.1e}",
        )
    return TruthRow(
        pipeline=key[0],
        stage=key[1],
        quantity=key[2],
        word=word,
        reason=reason,
        fails=other,
        inputs=len(own.legacy),
        bitwise=own.bitwise,
        legacy=own.legacy,
        modern=own.modern,
        ratio=median_ratio(own.legacy, own.modern),
        p=finding.p,
        checked=len(own.truths),
        truths=truths,
        allowed=allowed,
        floor=None,
    )


def _broken(pipeline: str, stage: str, problem: str) -> TruthRow:
    return TruthRow(
        pipeline=pipeline,
        stage=stage,
        quantity="-",
        word=Word.ERROR,
        reason=problem,
        fails=False,
        inputs=0,
        bitwise=0,
        legacy=[],
        modern=[],
        ratio=None,
        p=None,
        checked=0,
        truths=None,
        allowed=None,
        floor=None,
    )
