"""Planted differences between two plain functions: each must end in its own word."""

import json

import torch

from parity.truth.assemble import answer, exit_code, with_floor
from parity.truth.schema import Word
from tests.parity.truth.toy import PIPELINE, honest, rows_of


def in_bfloat16(x):
    """Products summed in bfloat16."""
    return (x * x).bfloat16().mean(dim=1).float().sqrt()


def reassociated(x):
    """The same mean, added up in another order."""
    return (x * x).flip(1).reshape(len(x), 3, 100).mean(dim=2).mean(dim=1).sqrt()


def wrong_in_the_fourth_digit(x):
    return (x * x * 1.0005).mean(dim=1).sqrt()


def test_a_less_accurate_sum_is_farther_and_fails_beyond_the_floor(monkeypatch):
    (row,) = rows_of(monkeypatch, in_bfloat16)
    assert row.word is Word.FARTHER
    assert row.ratio > 1000
    judged = with_floor(row, 1e-7)
    assert judged.fails
    assert exit_code([judged]) == 1
    assert answer([judged]).startswith("No: modern's toy (out) is farther")


def test_farther_within_the_noise_floor_does_not_fail(monkeypatch):
    (row,) = rows_of(monkeypatch, in_bfloat16)
    judged = with_floor(row, max(row.modern))
    assert (judged.word, judged.fails, exit_code([judged])) == (Word.FARTHER, False, 0)


def test_a_less_accurate_legacy_makes_modern_closer(monkeypatch):
    (row,) = rows_of(monkeypatch, honest, legacy=in_bfloat16)
    assert (row.word, exit_code([row])) == (Word.CLOSER, 0)


def test_five_inputs_cannot_tell(monkeypatch):
    (row,) = rows_of(monkeypatch, in_bfloat16, inputs=5)
    assert (row.word, exit_code([row])) == (Word.SAME_SIZE, 2)


def test_same_bytes_are_the_same_error(monkeypatch):
    (row,) = rows_of(monkeypatch, honest, inputs=3)
    assert (row.word, row.ratio, row.bitwise, exit_code([row])) == (Word.SAME_ERROR, 1.0, 3, 0)
    assert row.legacy == row.modern
    assert row.legacy[0] > 0


def test_another_order_is_no_failure(monkeypatch):
    (row,) = rows_of(monkeypatch, reassociated)
    assert row.bitwise < row.inputs
    assert row.word in (Word.SAME_SIZE, Word.CLOSER, Word.FARTHER)
    assert not with_floor(row, 1e-7).fails


def test_a_wrong_formula_is_caught_by_the_second_truth(monkeypatch):
    wrong = wrong_in_the_fourth_digit
    (row,) = rows_of(monkeypatch, wrong, wrong_in_float64=wrong)
    assert (row.word, row.fails, exit_code([row])) == (Word.OTHER_FORMULA, True, 1)
    assert row.truths > 1e-4 > row.allowed


def test_one_truth_alone_cannot_see_a_wrong_formula(monkeypatch):
    """Why the check exists: against its own truth a wrong formula looks nearer than legacy."""
    wrong = wrong_in_the_fourth_digit
    (row,) = rows_of(monkeypatch, wrong, wrong_in_float64=wrong, check=False)
    assert row.word is Word.CLOSER
    assert row.truths is None


def test_a_constant_wrong_by_half_a_unit_of_float32_is_another_formula(monkeypatch):
    def rounded(x):
        return honest(x) * (1 + 2.0**-25)

    (row,) = rows_of(monkeypatch, honest, wrong_in_float64=rounded)
    assert row.word is Word.OTHER_FORMULA


def test_truths_that_differ_by_float64_rounding_are_one(monkeypatch):
    (row,) = rows_of(monkeypatch, honest, wrong_in_float64=reassociated)
    assert row.truths > 0
    assert row.word is Word.SAME_ERROR


def test_a_side_that_fails_is_an_error_not_an_agreement(monkeypatch):
    def broken(x):
        raise RuntimeError("no kernel")

    (row,) = rows_of(monkeypatch, broken)
    assert (row.word, exit_code([row])) == (Word.ERROR, 2)
    assert "no kernel" in row.reason


def test_not_a_number_is_an_error(monkeypatch):
    (row,) = rows_of(monkeypatch, lambda x: honest(x) * torch.nan)
    assert row.word is Word.ERROR


def test_nothing_compared_cannot_tell():
    assert exit_code([]) == 2


def test_finished_stages_are_not_measured_again(monkeypatch, tmp_path):
    from parity import worker
    from parity.trace import Trace
    from parity.truth import work

    rows_of(monkeypatch, honest, inputs=1)
    calls = []
    monkeypatch.setattr(work, "load_trace", lambda folder: Trace(subject="legacy"))
    monkeypatch.setattr(work, "batch_tensors", lambda batch: {"batch/x": torch.rand(4, 5)})
    monkeypatch.setattr(worker, "batch_of", lambda spec: None)
    monkeypatch.setattr(worker, "_economical", lambda spec: monkeypatch.context())
    monkeypatch.setattr(work, "measure_stage", lambda *_: calls.append(1) or work.StageResult(pairs={}))
    out = tmp_path / "0.json"
    for _ in range(2):
        work.measure_input(None, tmp_path, 0, PIPELINE.names, False, out)
    assert calls == [1]
    assert set(json.loads(out.read_text())) == {"toy"}
