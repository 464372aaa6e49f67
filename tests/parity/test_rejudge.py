"""Stored results judged again: the same thresholds give the same words, others give others, nothing is run."""

import json
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from parity.__main__ import app
from parity.comparison import compare
from parity.held import drift_of
from parity.located import Located
from parity.noise import C, Floor, write_floors
from parity.rejudge import NOT_SEARCHED, judged_again
from parity.rows import first_divergence
from parity.schema import read_results, write_results
from parity.verdict import Verdict, judge
from tests.parity.report.sample import make_results


@pytest.fixture
def stored():
    """Results in which one row differs by 8 x its floor and one choice flipped; all others are the same bytes."""
    made = make_results(drift=False, keys=2)
    reference = torch.linspace(1, 2, 50)
    drift = compare(reference, reference * (1 + 1e-6))
    floor = Floor(drift.rel_l2 / 8, drift.max_abs / 4, 0)
    quiet = [_row(row, compare(reference, reference.clone()), floor) for row in made.rows if row.mode == "isolated"]
    rows = [_row(row, drift, floor) if row.stage == "texture" else row for row in quiet]
    return judged_again(replace(made, rows=rows, structure=[]), C)


def _row(row, drift, floor):
    kept = (
        "dtype",
        "bitwise",
        "count",
        "differing",
        "max_abs",
        "mean_signed",
        "max_ulp",
        "scaled_ulp",
        "rel_l2",
        "cosine",
    )
    return replace(
        row,
        shape=list(drift.shape),
        floor=floor.rel_l2,
        floor_max_abs=floor.max_abs,
        floor_differing=floor.differing,
        histogram=drift.histogram,
        worst_index=None,
        **{name: getattr(drift, name) for name in kept},
    )


def test_figures_survive_storage(stored, tmp_path):
    write_results(stored, tmp_path / "results.json")
    row = next(row for row in read_results(tmp_path / "results.json").rows if row.stage == "texture")
    floor = Floor(row.floor, row.floor_max_abs, row.floor_differing)
    assert judge(drift_of(row), floor, C) == (row.verdict, row.reason)


def test_the_factor_decides(stored):
    assert stored.exit_code == 1
    assert first_divergence(stored.rows).stage == "texture"
    wide = judged_again(stored, 10.0)
    assert wide.exit_code == 0
    assert wide.first_divergence is None
    assert wide.answer.startswith("Yes, up to rounding")
    assert "10 x the noise floor" in wide.answer
    assert wide.floor["c"] == 10
    assert judged_again(wide, C).verdict is stored.verdict
    assert {stage.isolated for stage in wide.stages if stage.name == "texture"} == {Verdict.ROUNDING}


def test_other_floors_decide(stored):
    run = {"pipeline": "coarse", "dropout": 0.0}
    row = next(row for row in stored.rows if row.stage == "texture" and row.variant == "eval")
    floors = {"isolated": {f"texture/{row.tensor}": Floor(row.rel_l2, row.max_abs, 0)}}
    anew = {other.id: other for other in judged_again(stored, C, floors, run).rows}
    assert anew[row.id].verdict is Verdict.ROUNDING
    assert anew[row.id].bound == C * row.rel_l2
    assert judged_again(stored, C, {"isolated": {}}, run).rows[stored.rows.index(row)].verdict is Verdict.MISSING
    with pytest.raises(ValueError, match="another pipeline"):
        judged_again(stored, C, floors, {"pipeline": "detail", "dropout": 0.5})


def test_a_factor_that_is_none(stored):
    for c in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="positive"):
            judged_again(stored, c)


def test_the_command_exits_with_the_new_code(stored, tmp_path):
    path, out, floors = (tmp_path / f"{name}.json" for name in ("results", "new", "floors"))
    write_results(stored, path)
    runner = CliRunner()
    assert runner.invoke(app, ["judge", str(path)]).exit_code == 1
    done = runner.invoke(app, ["judge", str(path), "--c", "10", "--out", str(out)])
    assert done.exit_code == 0
    assert "rows have another verdict" in done.output
    assert read_results(out).verdict is Verdict.ROUNDING
    assert json.loads(out.read_text())["floor"]["c"] == 10
    write_floors(floors, {"isolated": {}, "chained": {}}, {"run": {"pipeline": "coarse", "dropout": 0.0}})
    assert runner.invoke(app, ["judge", str(path), "--floors", str(floors)]).exit_code in (1, 2)
    write_floors(floors, {}, {})
    assert isinstance(runner.invoke(app, ["judge", str(path), "--floors", str(floors)]).exception, ValueError)


def test_a_culprit_stays_with_the_divergence_it_was_searched_for(stored):
    place = {"op": "aten.mul", "module": "", "file": "a.py", "line": 1, "function": "f", "backward": False}
    figures = {"differences": [], "rel_l2": 1e-6, "tensors": ["albedo"], "agreed": 1, "operations": 1}
    found = Located(**place, stage="texture", legacy=None, **figures)
    drifting = judged_again(stored, 1)
    drifting = replace(drifting, culprit=found)
    assert drifting.first_divergence == "isolated/texture/albedo"
    assert judged_again(drifting, 2).culprit == found
    lenient = judged_again(drifting, 100)
    assert (lenient.culprit, lenient.culprit_note) == (None, "")
    moved = replace(drifting, first_divergence="isolated/eval/encoder/x")
    assert (judged_again(moved, 1).culprit, judged_again(moved, 1).culprit_note) == (None, NOT_SEARCHED)
