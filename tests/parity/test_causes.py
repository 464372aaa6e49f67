"""Harmless processes: each gets what it names, floors cover them and say so, and what judges them never overlaps."""

import os

import pytest
import torch

from parity.audit import floor_facts, measured_by
from parity.causes import COVERED, HELD_OUT, Cause, under
from parity.comparison import compare
from parity.noise import Floors, widen
from parity.verdict import Verdict, judge
from parity.worker import RunSpec

VALUE = torch.linspace(1, 2, 64)


def state() -> tuple[int, bool, dict[str, str]]:
    """What the process that runs this was given."""
    return torch.get_num_threads(), torch.backends.mkldnn.enabled, dict(os.environ)


@pytest.mark.parametrize("cause", [Cause(name="all", threads=2, onednn=False, variables=(("MKL_CBWR", "AVX2"),))])
def test_a_process_gets_what_its_cause_names_and_this_one_keeps_its_own(cause: Cause) -> None:
    before = state()
    threads, onednn, variables = under(cause, state)
    assert (threads, onednn) == (2, False)
    assert variables["MKL_CBWR"] == "AVX2"
    assert state() == before


def test_what_floors_cover_has_no_part_in_judging_them() -> None:
    """Only `name` may coincide by accident, so the settings are compared."""
    covered = {(cause.threads, cause.onednn, cause.variables) for cause in COVERED}
    held_out = {(cause.threads, cause.onednn, cause.variables) for cause in HELD_OUT}
    assert not covered & held_out
    assert len({cause.name for cause in (*COVERED, *HELD_OUT)}) == len(COVERED) + len(HELD_OUT)


def test_a_floor_covers_a_harmless_process_and_names_it() -> None:
    floors, harmless, bug = Floors(), compare(VALUE, VALUE * (1 + 1e-5)), compare(VALUE, VALUE * (1 + 1e-3))
    widen(floors, "a/b", compare(VALUE, VALUE * (1 + 2e-7)))
    assert judge(harmless, floors["a/b"])[0] is Verdict.DRIFT
    widen(floors, "a/b", harmless, "2 threads")
    assert judge(harmless, floors["a/b"])[0] is Verdict.ROUNDING
    assert floors["a/b"].by == "2 threads"
    assert judge(bug, floors["a/b"])[0] is Verdict.DRIFT
    widen(floors, "a/b", compare(VALUE, VALUE * (1 + 2e-5)))
    assert floors["a/b"].by == ""


def test_facts_say_which_processes_a_floor_covers() -> None:
    facts = floor_facts(RunSpec(batch="seeded"))
    assert facts["causes"] == [cause.name for cause in COVERED]
    assert measured_by(facts) == f"12 draws and {len(COVERED)} harmless processes"
    assert measured_by({"draws": 12}) == "12 draws"
