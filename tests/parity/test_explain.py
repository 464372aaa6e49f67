"""What `explain` says from stored results, with and without recordings at hand."""

import pytest
from rich.console import Console

from parity import explain_replay
from parity.explain import explain_stage
from parity.explain_replay import operation_lines
from parity.trace import Trace, save_trace
from tests.parity.report.sample import located, make_results

CONSOLE = Console(quiet=True)


@pytest.fixture(scope="module")
def results():
    return make_results(keys=2)


def test_the_split_of_the_error_is_told(results):
    text = explain_stage(results, "texture")
    assert "born here; injected 0.0031, inherited 0, passed on 0" in text
    assert "repeat: " in text


def test_recordings_that_are_gone_are_said_with_the_command_that_makes_them(results, monkeypatch, tmp_path):
    monkeypatch.setattr(explain_replay, "trace_place", lambda spec, name: tmp_path / "trace")
    (line, *_) = operation_lines(results, "texture", CONSOLE)
    assert line.endswith(f"the recordings of this run are gone; make them with: {results.command}")


def test_a_stage_that_is_the_same_needs_no_operation(results):
    assert list(operation_lines(results, "encoder", CONSOLE)) == []


def test_the_operation_is_told_for_each_variant_that_differs(results, monkeypatch, tmp_path):
    asked = []

    def search(spec, stage, reference, tensors, members):
        asked.append((spec.dropout, stage, tensors))
        return located(), ""

    monkeypatch.setattr(explain_replay, "search", search)
    monkeypatch.setattr(explain_replay, "trace_place", lambda spec, name: tmp_path / "trace")
    save_trace(Trace(subject="legacy"), tmp_path / "trace")
    lines = list(operation_lines(results, "texture", CONSOLE))
    assert asked[0] == (0.0, "texture", ["albedo"])
    assert "modern/texture.py:52" in lines[1]
    assert "legacy/AU_sequence/decalib/models/FLAME.py:231" in lines[2]
    assert lines[3].endswith("upsample_bilinear2d instead of upsample_nearest2d")
