"""When an audit names an operation, and what it says when it cannot."""

from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest

from parity import culprit_audit
from parity.culprit_audit import name_culprit, search
from parity.verdict import Verdict
from parity.worker import RunSpec
from tests.parity.report.sample import located
from tests.parity.report.synthetic import make_rows


class Inline:
    """A crew without processes; `late` tasks never end."""

    def __init__(self, late=()):
        self.late, self.stopped, self.asked = late, False, []

    def submit(self, subject, task, *arguments):
        self.asked.append((subject, arguments))
        future = Future()
        if subject not in self.late:
            future.set_result(task(*arguments))
        return future

    def stop(self):
        self.stopped = True


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    (tmp_path / "facts.json").touch()
    monkeypatch.setattr(culprit_audit.culprit, "prepare", lambda *_: None)
    monkeypatch.setattr(culprit_audit.culprit, "locate", lambda *_: located())
    return tmp_path


def evidence(rows, reference, monkeypatch):
    monkeypatch.setattr(culprit_audit, "make_rows", lambda _: rows)
    return [SimpleNamespace(spec=RunSpec(batch="seeded"), variant="eval", reference=reference)]


def test_the_first_divergence_is_searched_with_its_drifting_tensors(recorded, monkeypatch):
    crew = Inline()
    found = name_culprit(evidence(make_rows(drift=True, keys=2), recorded, monkeypatch), crew, lambda _: nullcontext())
    assert found == (located(), "")
    assert [subject for subject, _ in crew.asked] == ["legacy", "modern"]
    assert crew.asked[1][1][1:] == ("texture", recorded, ["albedo"])


def test_without_a_drift_nothing_is_searched(recorded, monkeypatch):
    crew = Inline()
    rows = [replace(row, verdict=Verdict.IDENTICAL) for row in make_rows(drift=False, keys=2)]
    assert name_culprit(evidence(rows, recorded, monkeypatch), crew, lambda _: nullcontext()) == (None, "")
    assert not crew.asked


def test_a_search_that_takes_too_long_is_ended(recorded, monkeypatch):
    monkeypatch.setattr(culprit_audit, "LIMIT", 0.01)
    crew = Inline(late=("modern",))
    found, note = search(RunSpec(batch="seeded"), "texture", recorded, [], crew)
    assert found is None
    assert crew.stopped
    assert "python -m parity explain coarse/texture" in note


def test_a_stage_that_agrees_alone_is_said_to(recorded, monkeypatch):
    monkeypatch.setattr(culprit_audit.culprit, "locate", lambda *_: None)
    found, note = search(RunSpec(batch="seeded"), "texture", recorded, [], Inline())
    assert found is None
    assert note.startswith("given legacy's inputs the stage agrees")


def test_recordings_that_are_gone(tmp_path):
    assert search(RunSpec(batch="seeded"), "texture", tmp_path, [], Inline())[1].startswith("the recordings")
