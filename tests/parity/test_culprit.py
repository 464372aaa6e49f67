"""Which row is named as the first divergence, and when it may be called born there."""

from dataclasses import replace

import pytest

from parity.rows import born_there, first_divergence
from parity.verdict import Verdict
from tests.parity.report.synthetic import make_rows


@pytest.fixture(scope="module")
def calm():
    """Rows of a run in which everything is the same bytes."""
    rows = make_rows(drift=False, keys=2)
    return [replace(row, verdict=Verdict.IDENTICAL, bitwise=True, rel_l2=0.0) for row in rows if row.step == 0]


def spoiled(rows, *places):
    """The same with drift at each (variant, mode, stage)."""
    drift = {"verdict": Verdict.DRIFT, "bitwise": False, "rel_l2": 1.0}
    return [replace(row, **drift) if (row.variant, row.mode, row.stage) in places else row for row in rows]


def culprit(rows):
    found = first_divergence(rows)
    return found and (found.variant, found.mode, found.stage)


def test_nothing_drifts(calm):
    assert first_divergence(calm) is None


def test_the_first_isolated_drift_is_the_culprit(calm):
    rows = spoiled(calm, ("eval", "isolated", "texture"), ("eval", "chained", "texture"), ("eval", "chained", "losses"))
    assert culprit(rows) == ("eval", "isolated", "texture")
    assert born_there(first_divergence(rows), rows)


def test_a_chained_drift_behind_equal_bytes_comes_before_a_later_isolated_one(calm):
    rows = spoiled(calm, ("eval", "chained", "shading"), ("eval", "isolated", "losses"), ("eval", "chained", "losses"))
    assert culprit(rows) == ("eval", "chained", "shading")
    assert born_there(first_divergence(rows), rows)


def test_a_chained_drift_behind_rounding_may_have_come_in(calm):
    rows = spoiled(calm, ("eval", "chained", "shading"), ("eval", "isolated", "losses"))
    rows = [
        replace(row, bitwise=False, verdict=Verdict.ROUNDING)
        if (row.variant, row.mode, row.stage) == ("eval", "chained", "flame")
        else row
        for row in rows
    ]
    assert culprit(rows) == ("eval", "isolated", "losses")
    alone = [row for row in rows if not (row.mode == "isolated" and row.verdict is Verdict.DRIFT)]
    assert culprit(alone) == ("eval", "chained", "shading")
    assert not born_there(first_divergence(alone), alone)


def test_what_reads_updated_weights_is_no_cause_of_the_step(calm):
    rows = spoiled(calm, ("eval", "chained", "prediction"), ("eval", "chained", "adam"))
    assert culprit(rows) == ("eval", "chained", "adam")


def test_variants_are_told_in_order(calm):
    rows = spoiled(calm, ("dropout", "isolated", "encoder"), ("eval", "chained", "losses"))
    assert culprit(rows) == ("eval", "chained", "losses")


def test_a_side_that_does_not_repeat_itself_is_named_last(calm):
    rows = spoiled(calm, ("eval", "repeat:legacy", "encoder"))
    assert culprit(rows) == ("eval", "repeat:legacy", "encoder")
    assert not born_there(first_divergence(rows), rows)
