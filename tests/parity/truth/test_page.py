"""truth.json and its page: read back what was written, every word shown, nothing loaded from elsewhere."""

import math
import re
from dataclasses import replace

import pytest

from parity.report.truth import Axis, render_truth
from parity.schema import Skipped
from parity.truth.assemble import answer, exit_code
from parity.truth.schema import TruthResults, TruthRow, Word, read_truth, write_truth


def row(word, stage="flame", **changes):
    legacy = [1e-7 * (1 + index / 10) for index in range(20)]
    plain = {
        "pipeline": "coarse",
        "stage": stage,
        "quantity": "vertices",
        "word": word,
        "reason": "<why>",
        "fails": False,
    }
    plain |= {"inputs": 20, "bitwise": 0, "legacy": legacy, "modern": [2 * x for x in legacy], "ratio": 2.0, "p": 1e-4}
    plain |= {"checked": 2, "truths": 1e-16, "allowed": 1e-12, "floor": None}
    return TruthRow(**(plain | changes))


@pytest.fixture
def results():
    rows = [row(word, stage=f"stage_{index}") for index, word in enumerate(Word)]
    rows[3] = replace(rows[3], ratio=math.inf, legacy=[0.0] * 20)
    rows[-1] = replace(rows[-1], legacy=[], modern=[], ratio=None, p=None, inputs=0)
    return TruthResults(
        answer=answer(rows),
        exit_code=exit_code(rows),
        created="2026-01-01T00:00:00+00:00",
        command="python -m parity truth",
        alpha=0.01,
        scope={"batch": "toy", "inputs": 20},
        environment={"torch": "2"},
        keys={"coarse": "0"},
        rows=rows,
        not_exercised=[Skipped(what="buffers", why="state")],
        seconds=1.0,
    )


def test_written_results_are_read_back(results, tmp_path):
    write_truth(results, tmp_path / "truth.json")
    assert read_truth(tmp_path / "truth.json") == results


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 99}'])
def test_another_file_is_refused(text, tmp_path):
    path = tmp_path / "truth.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"parity truth"):
        read_truth(path)


def test_the_page_shows_every_word_and_loads_nothing(results):
    page = render_truth(results)
    assert all(word.value in page for word in Word)
    assert "&lt;why&gt;" in page
    assert not re.findall(r"(?:src|href)=[\"']https?:", page)
    assert page.count('<rect class="legacy"') == 20 * (len(Word) - 1)


def test_zero_has_a_place_left_of_every_decade():
    axis = Axis([0.0, 1e-9, 1e-3, math.inf])
    assert axis.x(0.0) < axis.x(1e-9) < axis.x(1e-3) <= 100


def test_an_audit_shows_a_truth_run_of_its_own_sources_only(results, tmp_path, monkeypatch):
    from parity.truth import stored

    write_truth(results, tmp_path / "truth.json")
    monkeypatch.setattr(stored, "truth_key", lambda spec: "0")
    summary = stored.stored_summary(tmp_path, "toy", ["coarse"])
    assert summary.answer == results.answer
    assert summary.counts["farther"] == 1
    assert stored.stored_summary(tmp_path, "toy", ["coarse", "detail"]) is None
    monkeypatch.setattr(stored, "truth_key", lambda spec: "another")
    assert stored.stored_summary(tmp_path, "toy", ["coarse"]) is None
    assert stored.stored_summary(tmp_path / "nowhere", "toy", ["coarse"]) is None
