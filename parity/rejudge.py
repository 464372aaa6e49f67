"""Stored results judged again, without running anything: figures are facts, thresholds are a choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from parity.assemble import GOLDEN_WORDS, answer
from parity.held import drift_of, floor_of
from parity.noise import Floor, Floors
from parity.pipelines import PIPELINES
from parity.rows import allowance, first_divergence, floor_key_of, stage_words, with_causes
from parity.schema import Results, Row, StageSummary
from parity.verdict import exit_code, judge, overall

NOT_SEARCHED = "judged again with other thresholds: which operation makes this divergence was not searched for"


def judged_again(
    results: Results, c: float, floors: Mapping[str, Floors] | None = None, run: Mapping[str, Any] | None = None
) -> Results:
    """`results` with every verdict that a threshold decides taken anew.

    Repeats and structural findings keep their words: no threshold has a part in them.

    Args:
        results: of an audit.
        c: factor that turns a floor into a bound.
        floors: mode -> `stage/tensor` -> floor, to be used instead of the stored ones.
        run: settings of the run that `floors` were measured on; rows of other pipelines and variants keep theirs.

    Raises:
        ValueError: c is not a positive number, or `floors` fit none of the rows.
    """
    if not c > 0:
        raise ValueError(f"--c is {c}; it must be a positive number")
    rows = [_judged(row, c, _floor(row, floors, run or {})) for row in results.rows]
    if floors is not None and not any(_fits(row, run or {}) for row in rows):
        raise ValueError("these floors were measured on another pipeline or variant than any row of the results")
    rows = with_causes(rows)
    words = [row.verdict for row in rows] + [finding.verdict for finding in results.structure]
    words.append(GOLDEN_WORDS[results.goldens["state"]])
    first = first_divergence(rows)
    searched = first is not None and first.id == results.first_divergence
    return replace(
        results,
        answer=answer(results.scope, rows, results.structure, results.goldens, c),
        verdict=overall(words),
        exit_code=exit_code(words),
        first_divergence=first.id if first else None,
        culprit=results.culprit if searched else None,
        culprit_note=results.culprit_note if searched else NOT_SEARCHED if first else "",
        rows=rows,
        stages=[_summary(stage, rows) for stage in results.stages],
        floor={**results.floor, "c": c, "detail": f"{results.floor['detail']}; judged again with c = {c:g}"},
    )


def _fits(row: Row, run: Mapping[str, Any]) -> bool:
    """Whether floors measured on `run` are those of a row's variant."""
    variants = PIPELINES[row.pipeline].variants
    return row.pipeline == run.get("pipeline") and variants.get(row.variant) == run.get("dropout")


def _floor(row: Row, floors: Mapping[str, Floors] | None, run: Mapping[str, Any]) -> Floor | None:
    if floors is not None and _fits(row, run):
        return floors.get("isolated" if row.mode == "isolated" else "chained", {}).get(floor_key_of(row))
    return floor_of(row)


def _judged(row: Row, c: float, floor: Floor | None) -> Row:
    if row.mode.startswith("repeat"):
        return row
    verdict, reason = judge(drift_of(row), floor, c)
    return replace(row, verdict=verdict, reason=reason, **allowance(floor, c))


def _summary(stage: StageSummary, rows: list[Row]) -> StageSummary:
    isolated, chained = stage_words(rows, stage.pipeline, stage.name)
    return replace(stage, isolated=isolated, chained=chained)
