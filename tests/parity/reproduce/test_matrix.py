"""The matrix of a toy, from fresh processes to words; interruption; what a cluster must give."""

import hashlib
import io
import json
import os
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from rich.console import Console

from parity.environment import isolated_numerics
from parity.reproduce import child, engine
from parity.reproduce.cell import Cell
from parity.reproduce.engine import Engine, Processes
from parity.reproduce.page import render
from parity.reproduce.results import Matrix, read_matrix, write_matrix
from parity.reproduce.run import Run, load_run
from parity.reproduce.session import Request, chosen, planned, reproduce
from parity.reproduce.watch import RESULT, TENSORS
from parity.reproduce.words import Word

TOY = "tests.parity.reproduce.toy_training:train"
CELLS = "nothing,as shipped 2,python unseeded,numpy unseeded,torch unseeded,hash seed,beside,resume at 1"


def here(job: Path, run: Run) -> None:
    """Performs a job in this process, which is quick; that processes are fresh is what the slow test is for."""
    kept = {name: os.environ.get(name) for name, _ in run.environment}
    os.environ.update(dict(run.environment))
    try:
        child.main(job)
    finally:
        for name, value in kept.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def toy(folder: Path, engine: Engine) -> Matrix:
    request = Request(subject=TOY, pipeline="coarse", cells=CELLS, steps=2)
    return reproduce(request, engine, command="test", console=Console(file=io.StringIO()))


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    folder = tmp_path_factory.mktemp("cells")
    with isolated_numerics():
        return toy(folder, Engine(here, jobs=1, folder=folder))


@pytest.mark.slow
def test_fresh_processes_say_the_same(matrix: Matrix, tmp_path: Path) -> None:
    found = toy(tmp_path, Engine(Processes(), jobs=2, folder=tmp_path))
    assert words(found) == words(matrix) | {"hash seed": Word.BITWISE}


def words(matrix: Matrix) -> dict[str, Word]:
    return {cell.id: cell.word for cell in matrix.subjects[0].cells}


def test_each_cause_is_told_from_what_does_not_matter(matrix: Matrix) -> None:
    found = words(matrix)
    assert found["nothing"] is Word.BITWISE
    assert found["python unseeded"] is Word.MOVED
    assert found["torch unseeded"] is Word.MOVED
    assert found["numpy unseeded"] is Word.BITWISE
    assert found["hash seed"] is Word.NOT_EXERCISED  # this process was started with its hash seed
    assert found["resume at 1"] is Word.BITWISE


def test_the_first_stage_that_moves_is_named(matrix: Matrix) -> None:
    by_id = {cell.id: cell for cell in matrix.subjects[0].cells}
    assert by_id["python unseeded"].first == "data/image_224@0"
    assert by_id["torch unseeded"].stage == "initialisation"


def test_an_error_of_the_subject_is_a_result(matrix: Matrix) -> None:
    cell = next(cell for cell in matrix.subjects[0].cells if cell.id == "beside")
    assert cell.word is Word.ERROR
    assert "RuntimeError: shape '[1, 3]' is invalid" in cell.reason


def test_as_shipped_the_toy_does_not_reproduce(matrix: Matrix) -> None:
    assert matrix.exit_code == 1
    assert "as shipped: no, 2 fresh processes" in matrix.answer
    assert "Seeded: bitwise the same in 2 fresh processes" in matrix.answer
    assert "threads" not in matrix.answer  # not tried here


def test_stored_results_and_page_show_the_same(matrix: Matrix, tmp_path: Path) -> None:
    write_matrix(matrix, tmp_path / "reproduce.json")
    assert read_matrix(tmp_path / "reproduce.json") == matrix
    page = render(matrix)
    for text in (matrix.answer.split(";")[0][:30], "data/image_224@0", "RuntimeError"):
        assert text in page
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match="schema"):
        read_matrix(tmp_path / "other.json")


SOURCES = {"sources": {__file__: hashlib.sha256(Path(__file__).read_bytes()).hexdigest()}}


class Interrupted:
    """Performs jobs without running anything; Ctrl-C comes after `until` of them."""

    def __init__(self, until: int) -> None:
        self.done, self._until = list[str](), until

    def __call__(self, job: Path, run: Run) -> None:
        if len(self.done) == self._until:
            raise KeyboardInterrupt
        document = json.loads(job.read_text())
        out = Path(document["out"])
        out.mkdir(parents=True)
        if document["keep"]:
            (out / TENSORS).touch()
        (out / RESULT).write_text(
            json.dumps({"digests": {}, "drifts": {}, "scalars": {}, "seconds": [], "notes": SOURCES})
        )
        self.done.append(document["out"])


def test_an_interrupted_matrix_is_taken_up_where_it_stopped(tmp_path: Path) -> None:
    run = Run(subject=TOY, pipeline="coarse")
    cells = chosen(Request(subject=TOY, pipeline="coarse", cells=CELLS), run)
    first, second, third = Interrupted(3), Interrupted(1000), Interrupted(1000)
    with pytest.raises(KeyboardInterrupt):
        Engine(first, jobs=1, folder=tmp_path).run(cells, lambda *_: None)
    Engine(second, jobs=1, resume=True, folder=tmp_path).run(cells, lambda *_: None)
    Engine(third, jobs=1, resume=False, folder=tmp_path).run(cells, lambda *_: None)
    assert len(first.done) == 3
    assert not set(first.done) & set(second.done)
    assert sorted(first.done + second.done) == sorted(third.done)


def test_a_cell_whose_reference_failed_says_so(tmp_path: Path) -> None:
    def perform(job: Path, run: Run) -> None:
        raise RuntimeError("no memory left")

    run = Run(subject=TOY, pipeline="coarse")
    cells = [
        Cell(id="baseline", title="", group="", runs=(run,), against=""),
        Cell(id="nothing", title="", group="", runs=(run,)),
    ]
    found = Engine(perform, jobs=1, folder=tmp_path).run(cells, lambda *_: None)
    assert "its reference, 'baseline', failed: no memory left" in found["nothing"]["notes"]["error"]


def test_a_process_that_dies_is_reported_with_its_last_words(tmp_path: Path) -> None:
    job = tmp_path / "job.json"
    job.write_text("not json")
    with pytest.raises(RuntimeError, match="JSONDecodeError"):
        Processes()(job, Run(subject=TOY, pipeline="coarse"))


def test_a_process_that_hangs_is_given_up_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = "import os, sys, time; print(os.getpid(), file=open(sys.argv[1], 'w'), flush=True); time.sleep(600)"
    monkeypatch.setattr(engine, "command", lambda job, run: [sys.executable, "-c", hanging, str(tmp_path / "pid")])
    with pytest.raises(RuntimeError, match="no result after 2 seconds; its process was ended"):
        Processes(2)(tmp_path / "job.json", Run(subject=TOY, pipeline="coarse"))
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request(subject="nobody"), "unknown subject 'nobody'"),
        (Request(pipeline="fine"), "unknown pipeline 'fine'"),
        (Request(raster=50), "multiple of 32"),
        (Request(raster=32), "the detail stage needs 64"),
        (Request(subject=TOY, pipeline="coarse", cells="nonsense"), "unknown cell nonsense"),
    ],
)
def test_bad_requests_are_refused(request_: Request, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        planned(request_)


def test_a_cell_of_one_subject_only_may_be_asked_for_together_with_others() -> None:
    found = {
        run.subject: [cell.id for cell in part] for run, part in planned(Request(cells="order", pipeline="coarse"))
    }
    assert list(found) == ["legacy"]
    assert "order" in found["legacy"]


def test_a_run_survives_json_and_refuses_strangers() -> None:
    run = Run(subject=TOY, pipeline="coarse", unseeded=("torch",), environment=(("A", "1"),))
    assert load_run(json.loads(json.dumps(run.dump()))) == run
    with pytest.raises(ValueError, match="unknown fields colour"):
        load_run({**run.dump(), "colour": "red"})


def test_a_second_run_in_the_same_folder_is_refused_and_touches_nothing(tmp_path: Path) -> None:
    def never(job: Path, run: Run) -> None:
        raise AssertionError("ran a cell")

    refusal = r"another `parity reproduce` is using .*--resume"
    with FileLock(tmp_path / "lock"), pytest.raises(ValueError, match=refusal):
        toy(tmp_path, Engine(never, jobs=1, folder=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
