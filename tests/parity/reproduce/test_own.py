"""A subject of your own: what it never looked at, where it went on, and whether its sources are still the same."""

import io
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from parity.__main__ import app
from parity.environment import isolated_numerics
from parity.reproduce.cell import Cell
from parity.reproduce.engine import Engine, importable
from parity.reproduce.evidence import NOTE
from parity.reproduce.exercised import unexercised
from parity.reproduce.own import HONOURED, noticed, said, sources, unchanged
from parity.reproduce.run import Run
from parity.reproduce.session import Request, reproduce
from parity.reproduce.watch import RESULT, TENSORS
from parity.reproduce.words import Word
from tests.parity.reproduce.test_matrix import here

RUN = Run(subject="mine:train", pipeline="own")


def result(run: Run, read: set[str] | None = None, made: int = 2, first: int = 0, before: int = 0) -> dict[str, Any]:
    noted = {"run": run.dump(), "begin": {}, "threads": run.threads, "steps": {"made": made, "first": first}}
    noted |= {} if read is None else {"read": sorted(read)}
    return {"drifts": {}, "notes": {NOTE: noted}, "interrupted": [{"made": before, "first": 0}]}


def test_a_run_notes_what_was_looked_at_and_nothing_else() -> None:
    shown, read = noticed(RUN)
    assert isinstance(shown, Run)
    assert repr(shown) == repr(RUN)
    assert not read
    assert (shown.company, shown.steps) == ("", 2)
    assert read == {"company", "steps"}


@pytest.mark.parametrize(
    ("field", "value"), [("company", "beside"), ("kind", "accumulate"), ("clips", 2), ("channels_last", True)]
)
def test_a_switch_that_nobody_looked_at_is_not_exercised(field: str, value: object) -> None:
    changed = replace(RUN, **{field: value})
    assert field in HONOURED
    assert unexercised(result(changed, set()), result(RUN, set())) == f"the subject never reads run.{field}"
    if field in ("company", "kind"):  # whoever looked may have honoured it; of the others there is evidence
        assert unexercised(result(changed, {field}), result(RUN, set())) == ""


def test_what_is_set_before_the_subject_begins_needs_no_look() -> None:
    assert unexercised(result(replace(RUN, threads=2), set()), result(RUN, set())) == ""


LOOKED = {"stop", "resumed"}
RESUMED = replace(RUN, steps=3, stop=1, resumed=True)
WHOLE = result(replace(RUN, steps=3), LOOKED)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (result(RESUMED, LOOKED, made=2, first=1, before=1), ""),
        (result(RESUMED, LOOKED, made=3, first=0, before=1), "begins at update 0, not at update 1"),
        (result(RESUMED, LOOKED, made=2, first=1, before=3), "interrupted after 1 of 3 updates made 3"),
        (result(RESUMED, LOOKED, made=3, first=1, before=1), "makes 3 updates, 2 were left"),
        (result(RESUMED, {"stop"}, made=2, first=1, before=3), "never reads run.resumed"),
        (result(RESUMED, None, made=2, first=1, before=2), ""),
        (result(RESUMED, None, made=3, first=0, before=2), "begins at update 0"),
    ],
)
def test_a_continued_run_goes_on_where_it_stopped(found: dict[str, Any], reason: str) -> None:
    assert unexercised(found, WHOLE) == reason or reason in unexercised(found, WHOLE) != ""


def test_a_subject_that_looks_at_nothing_proves_nothing(tmp_path: Path) -> None:
    names = "nothing,beside,resume at 1,threads 2,ulp 1"
    request = Request(subject="tests.parity.reproduce.toy_deaf:train", cells=names)
    with isolated_numerics():
        matrix = reproduce(
            request, Engine(here, jobs=1, folder=tmp_path), command="", console=Console(file=io.StringIO())
        )
    found = {cell.id: cell for cell in matrix.subjects[0].cells}
    assert found["nothing"].word is Word.BITWISE
    assert found["threads 2"].word is Word.BITWISE
    assert found["beside"].reason == "the subject never reads run.company"
    assert "never reads run.resumed" in found["resume at 1"].reason
    assert {found["beside"].word, found["resume at 1"].word} == {Word.NOT_EXERCISED}
    assert not matrix.subjects[0].floor, "one-ULP runs that moved nothing are no floor of zero"


class Noting:
    """Performs jobs without running anything; each leaves digests of `file` as its sources."""

    def __init__(self, file: Path) -> None:
        self.file, self.done, self.edit = file, list[str](), False

    def __call__(self, job: Path, run: Run) -> None:
        document = json.loads(job.read_text())
        out = Path(document["out"])
        out.mkdir(parents=True)
        if document["keep"]:
            (out / TENSORS).touch()
        self.file.write_text(f"edited {len(self.done)}" if self.edit else self.file.read_text())
        found = {"digests": {}, "drifts": {}, "scalars": {}, "seconds": [], "notes": {"sources": digests(self.file)}}
        (out / RESULT).write_text(json.dumps(found))
        self.done.append(document["out"])


def digests(file: Path) -> dict[str, str]:
    import hashlib

    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest()}


CELLS = [
    Cell(id="baseline", title="", group="", runs=(RUN,), against=""),
    Cell(id="nothing", title="", group="", runs=(replace(RUN, seed=1),)),
]


def test_kept_cells_are_taken_only_while_the_sources_are_the_same(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("a = 1\n")
    perform = Noting(file)
    Engine(perform, jobs=1, folder=tmp_path).run(CELLS, lambda *_: None)
    kept = Engine(perform, jobs=1, resume=True, folder=tmp_path).run(CELLS, lambda *_: None)
    assert [part["kept"] for part in kept.values()] == [True, True]
    assert len(perform.done) == 2
    file.write_text("a = 2\n")
    again = Engine(perform, jobs=1, resume=True, folder=tmp_path).run(CELLS, lambda *_: None)
    assert not any(part.get("kept") for part in again.values())
    file.unlink()
    assert not unchanged({str(file): "0"}), "the file is gone"
    assert not unchanged({})
    assert not unchanged(None)


def test_a_cell_whose_reference_was_run_anew_is_run_anew(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.touch()
    perform = Noting(file)
    Engine(perform, jobs=1, folder=tmp_path).run(CELLS, lambda *_: None)
    (Path(perform.done[0]) / TENSORS).unlink()
    Engine(perform, jobs=1, resume=True, folder=tmp_path).run(CELLS, lambda *_: None)
    assert perform.done[2:] == perform.done[:2]


def test_a_file_edited_while_cells_run_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.touch()
    perform = Noting(file)
    perform.edit = True
    found = Engine(perform, jobs=1, folder=tmp_path).run(CELLS, lambda *_: None)
    assert "mine.py changed after the reference, 'baseline', had run" in found["nothing"]["notes"]["error"]


def test_the_sources_are_those_that_nobody_installed() -> None:
    found = sources()
    assert str(Path(__file__).resolve()) in found
    assert str(Path(sys.modules["parity.reproduce.own"].__file__ or "").resolve()) in found
    assert not [name for name in found if "site-packages" in name]
    assert json.__file__ not in found


def test_a_real_edit_is_seen_by_the_next_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh processes, found in the current directory: the helper is edited, not the subject itself."""
    (tmp_path / "my_helper_b7.py").write_text("factor = 1.0\n")
    (tmp_path / "my_subject_b7.py").write_text(
        "import torch, my_helper_b7\n"
        "def train(run, place, watch):\n"
        "    watch.put('codes', {'out': torch.ones(2) * my_helper_b7.factor})\n"
        "    watch.step_done()\n"
    )
    monkeypatch.chdir(tmp_path)
    run = Run(subject="my_subject_b7:train", pipeline="own")
    cells = [Cell(id="baseline", title="", group="", runs=(run,), against="")]

    def go(*, resume: bool) -> dict[str, Any]:
        return Engine(jobs=1, resume=resume, folder=tmp_path / "cells").run(cells, lambda *_: None)["baseline"]

    first, kept = go(resume=False), go(resume=True)
    assert str(tmp_path / "my_helper_b7.py") in first["notes"]["sources"]
    assert (first.get("kept"), kept["kept"]) == (None, True)
    (tmp_path / "my_helper_b7.py").write_text("factor = 2.0\n")
    again = go(resume=True)
    assert not again.get("kept")
    assert again["digests"] != first["digests"] == kept["digests"]


def test_kept_cells_are_said_to_be_kept(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.touch()
    request, perform = Request(subject="mine:train", cells="nothing"), Noting(file)
    for word, resume in (("done", False), ("kept", True)):
        said = io.StringIO()
        engine = Engine(perform, jobs=1, resume=resume, folder=tmp_path)
        reproduce(request, engine, command="", console=Console(file=said))
        assert f"nothing: {word}" in said.getvalue()
        assert ("cells kept from an earlier run of the same sources" in said.getvalue()) is resume


def test_folders_of_the_caller_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "beside")
    assert importable() == [str(tmp_path), str(tmp_path / "beside")]


def test_an_error_says_where() -> None:
    with pytest.raises(ValueError, match="property name") as caught:
        json.loads("{")
    assert re.search(rf"\({re.escape(__file__)}:\d+\)$", said(caught.value)), "not a line of the library"


def test_the_ids_of_cells_can_be_listed() -> None:
    ran = CliRunner().invoke(app, ["reproduce", "--subject", "mine:train", "--cells", "help"])
    assert ran.exit_code == 0
    assert {"threads", "resume", "beside"} <= {line.split()[0] for line in ran.output.splitlines() if line.strip()}
