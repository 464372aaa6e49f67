"""The self-test's results as JSON and as a page; the judging of fates is tested on the toy pipeline."""

from dataclasses import replace

import pytest
from typer.testing import CliRunner

from parity.selftest.bugs_coarse import COARSE_BUGS
from parity.selftest.harmless import HARMLESS
from parity.selftest.outcome import Cell, Named, Outcome
from parity.selftest.page import publish, read_selftest, render_selftest
from parity.selftest.session import Wanted, judged
from parity.selftest.verdicts import Fate, alarm_rate, judge_harmless
from parity.verdict import Verdict


def cell(stage, verdict, ratio, mode="isolated"):
    return Cell(mode=mode, stage=stage, tensor="x", verdict=verdict, ratio=ratio, rel_l2=1e-3)


def outcome_of(item):
    drift = cell(item.stage, Verdict.DRIFT, float("inf") if item.kind == "dtype" else 400.0)
    named = Named(stage=item.stage, mode="isolated", functions=["a.py:f"], by="test")
    return Outcome(id=item.id, cells=[drift], named=named, spots=["a.py:f"], seconds=1.0)


@pytest.fixture
def result(monkeypatch):
    bugs = [item for item in COARSE_BUGS if not item.below][:5]
    monkeypatch.setattr(Wanted, "bugs", lambda self: bugs)
    monkeypatch.setattr(Wanted, "harmless", lambda self: list(HARMLESS[:3]))
    outcomes = {(0, item.id): outcome_of(item) for item in bugs}
    for item in HARMLESS[:2]:
        outcomes[0, item.id] = Outcome(id=item.id, cells=[cell("flame", Verdict.ROUNDING, 1.7)], seconds=1.0)
    return judged(Wanted(), outcomes, {("coarse", "flame"): 2e-7}, command="python -m parity selftest", seconds=9.0)


def test_it_survives_the_way_through_json(result, tmp_path):
    publish(result, tmp_path, tmp_path / "copy.json")
    assert read_selftest(tmp_path / "selftest.json") == result
    assert read_selftest(tmp_path / "copy.json") == result
    assert (tmp_path / "selftest.html").stat().st_size > 10_000


def test_the_page_names_each_bug_and_variant(result):
    page = render_selftest(result)
    for item in (*result.bugs, *result.harmless):
        assert item.id in page
    assert "Yes: 5 of 5 planted bugs" in page
    assert "not exercised" in page


def test_what_failed_is_on_top(result):
    wrong = replace(result, exit_code=1, failures=["c-some-bug: missed, 0.5 floors"])
    page = render_selftest(wrong)
    assert page.index("c-some-bug: missed") < page.index('id="matrix"')


def test_the_rate_has_a_bound_that_shrinks_with_the_number_of_comparisons(result):
    alarms, compared, bound = alarm_rate(result.harmless)
    assert (alarms, compared) == (0, 2)
    assert alarm_rate([replace(result.harmless[0], compared=100)])[2] < bound < 1


def test_what_cannot_run_here_is_not_exercised():
    compiled = replace(next(item for item in HARMLESS if item.needs), needs="no-such-compiler")
    found = judge_harmless(compiled, None)
    assert found.fate is Fate.NOT_EXERCISED
    assert "no-such-compiler" in found.reason


def test_bad_arguments_are_refused():
    from parity.__main__ import app

    for arguments, words in ((["--only", "c-none"], "unknown id"), (["--seeds", "x"], "no whole number")):
        found = CliRunner().invoke(app, ["selftest", *arguments])
        assert found.exit_code != 0
        assert words in str(found.exception)
