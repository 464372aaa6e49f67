import json

import pytest
import torch

from parity.comparison import compare
from parity.noise import Floor, isolated_floor, read_floors, write_floors
from parity.perturb import one_ulp
from parity.verdict import Verdict, exit_code, judge, worst


def replay(stage, inputs):
    x = inputs["x"]
    return {"sum": x.sum(), "matmul": x @ x.T, "ids": (x > 0).long()}


def test_perturbation_moves_by_at_most_one_step_and_leaves_zeros_and_integers():
    x = torch.cat([torch.randn(2000), torch.zeros(10)])
    generator = torch.Generator().manual_seed(0)
    moved = one_ulp(x, generator)
    assert compare(x, moved).max_ulp == 1
    assert torch.equal(moved[-10:], torch.zeros(10))
    ids = torch.arange(5)
    assert torch.equal(one_ulp(ids, generator), ids)


def test_rounding_is_told_from_a_bug_by_measurement():
    x = torch.randn(64, 64, generator=torch.Generator().manual_seed(1))
    floors = isolated_floor(replay, "stage", {"x": x}, range(12))
    exact = replay("stage", {"x": x})["matmul"]
    reassociated = (x[:, :32] @ x[:, :32].T) + (x[:, 32:] @ x[:, 32:].T)
    assert not torch.equal(exact, reassociated)
    assert judge(compare(exact, reassociated), floors["stage/matmul"])[0] is Verdict.ROUNDING
    assert judge(compare(exact, exact * (1 + 1e-5)), floors["stage/matmul"])[0] is Verdict.DRIFT
    assert judge(compare(exact, exact), None)[0] is Verdict.IDENTICAL


def test_a_difference_without_a_floor_is_not_called_agreement():
    verdict, reason = judge(compare(torch.ones(2), torch.ones(2) + 1e-7), None)
    assert verdict is Verdict.MISSING
    assert "no noise floor" in reason


def test_flipped_ids_are_held_against_flips_under_noise():
    a, b = torch.zeros(100, dtype=torch.int64), torch.zeros(100, dtype=torch.int64)
    b[:4] = 1
    assert judge(compare(a, b), Floor(0.0, 0.0, 1))[0] is Verdict.ROUNDING
    assert judge(compare(a, b), Floor(0.0, 0.0, 0))[0] is Verdict.DRIFT


def test_floors_survive_the_disk(tmp_path):
    floors = {"isolated": {"a/b": Floor(1e-7, 2e-7, 3)}}
    write_floors(tmp_path / "f.json", floors, {"draws": 12})
    assert read_floors(tmp_path / "f.json") == (floors, {"draws": 12})
    assert json.loads((tmp_path / "f.json").read_text())["evidence"] == {"draws": 12}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["identical", "rounding", "known"], 0),
        (["identical", "not exercised"], 0),
        (["not exercised"], 2),
        ([], 2),
        (["identical", "unstable"], 2),
        (["identical", "missing"], 2),
        (["identical", "error"], 2),
        (["unstable", "drift"], 1),
    ],
)
def test_exit_codes(words, code):
    assert exit_code(map(Verdict, words)) == code


def test_the_worst_word_wins():
    assert worst([Verdict.IDENTICAL, Verdict.DRIFT, Verdict.ROUNDING]) is Verdict.DRIFT
    assert worst([]) is Verdict.NOT_EXERCISED
