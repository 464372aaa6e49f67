"""The self-test on a pipeline of two stages: real source of modern, real planting and judging, small tensors."""

import importlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache

import pytest
import torch
from rich.console import Console

from parity import worker
from parity.discrepancies import REGISTRY
from parity.noise import Floor, write_floors
from parity.selftest import examine as work
from parity.selftest import pool, spectrum
from parity.selftest.bug import bug
from parity.selftest.harmless import Harmless
from parity.selftest.mutation import Edit, MutationError, Spot
from parity.selftest.outcome import Ground, Task, read_outcome
from parity.selftest.session import Wanted, judged, task_of
from parity.selftest.verdicts import Fate, judge_bug, judge_harmless
from parity.stages import Pipeline, Stage
from parity.trace import Trace, save_trace
from parity.worker import RunSpec

PIPELINE = Pipeline(
    name="coarse",
    tree="AU_sequence",
    variants={"eval": 0.0},
    stages=(
        Stage(name="projection", doc="", inputs={"points": "given/points", "cam": "given/cam"}),
        Stage(name="shading", doc="", inputs={"normals": "given/normals", "light": "given/light"}),
    ),
    trained={},
)
SIGN = bug(
    "eval",
    "shading",
    "toy",
    "sign",
    "renderer.py",
    "n[:, 0] ** 2 - n[:, 1] ** 2,\n    ]\n\n\ndef _deca",
    "n[:, 0] ** 2 + n[:, 1] ** 2,\n    ]\n\n\ndef _deca",
)
FIRST = bug(
    "eval", "projection", "first", "sign", "camera.py", "points_BL3[..., :2] + shift", "points_BL3[..., :2] - shift"
)
# A change far below the floor of anything: it must not pass as caught.
TINY = bug(
    "eval",
    "projection",
    "tiny",
    "constant",
    "camera.py",
    "return scale * torch.cat",
    "return (1 + 1e-12) * scale * torch.cat",
)
SUM = Harmless(
    id="sum",
    variant="eval",
    kind="source",
    edits=(
        Edit(
            "renderer.py",
            "return (light_BK3[..., None, None] * scaled[:, :, None]).sum(dim=1)",
            'return torch.einsum("bkc,bkhw->bchw", light_BK3, scaled)',
        ),
    ),
)


def facts(side):
    """The registered differences of structure; one that neither side shows any more would be drift."""
    return {entry.fact: getattr(entry, side) for entry in REGISTRY if entry.pipeline == PIPELINE.name}


class Toy:
    """A subject of two stages; what it runs is imported when it is built, as the real one's adapters do."""

    name = "modern"
    given = None

    def __init__(self):
        self.camera = importlib.import_module("modern.camera")
        self.renderer = importlib.import_module("modern.renderer")

    def replay(self, stage, x):
        if stage == "projection":
            return {"points": self.camera.orthographic(x["points"], x["cam"])}
        return {"shading_images": self.renderer.sh_shading(x["normals"], x["light"])}

    def trace(self, batch, plan):
        found = Trace(subject="modern", structure=facts("modern"))
        for stage in PIPELINE.stages:
            found.put(stage.name, self.replay(stage.name, {key: self.given[at] for key, at in stage.inputs.items()}))
        return found


@pytest.fixture
def ground(tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "_subject", lru_cache(lambda name, spec: Toy()))
    monkeypatch.setattr(worker, "pipeline_of", lambda spec: PIPELINE)
    monkeypatch.setattr(worker, "batch_of", lambda spec: None)
    work._stored.cache_clear()
    generator = torch.Generator().manual_seed(0)
    shapes = {"points": (1, 9, 3), "cam": (1, 3), "normals": (1, 3, 8, 8), "light": (1, 9, 3)}
    given = {f"given/{name}": torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    monkeypatch.setattr(worker, "recorded_world", lambda spec, trace: trace.tensors | given)
    monkeypatch.setattr(Toy, "given", given)
    trace, spec = Toy().trace(None, None), RunSpec(batch="toy")
    trace.structure = facts("legacy")
    save_trace(trace, tmp_path / "legacy")
    save_trace(Trace(subject="legacy"), tmp_path / "repeats")
    floors = {key: Floor(1e-7, 1e-6, 0) for key in trace.tensors}
    write_floors(tmp_path / "floors.json", {"isolated": floors, "chained": floors}, {})
    made = Ground(
        spec=spec,
        variant="eval",
        reference=tmp_path / "legacy",
        repeats=tmp_path / "repeats",
        floors=tmp_path / "floors.json",
        spectrum=tmp_path / "spectrum.json",
        rasters=tmp_path / "rasters",
    )
    spectrum.write(spectrum.record(spec, made.reference), made.spectrum)
    return made


def fate(item, ground):
    return judge_bug(item, work.examine(task_of(item, False), ground))


def test_each_stage_runs_its_own_functions(ground):
    ran = spectrum.read(ground.spectrum).ran
    assert Spot("camera.py", "orthographic") in ran["projection"]
    assert Spot("renderer.py", "_sequence_functions") in ran["shading"]
    assert not ran["projection"] & ran["shading"]


def test_a_bug_is_placed_and_its_function_is_among_the_suspects(ground):
    found = fate(SIGN, ground)
    assert (found.fate, found.named, found.mode) == (Fate.PLACED, "shading", "isolated")
    assert found.function_named
    assert found.ratio > 1e3
    assert found.seen["forward replay"] == "found"


def test_what_a_change_cannot_reach_is_not_replayed(ground):
    assert work.examine(task_of(SIGN, False), ground).reached == ["shading"]


def test_replaying_stops_at_the_first_drift_unless_all_is_asked_for(ground):
    both = Task(id="both", variant="eval", edits=(*FIRST.edits, *SIGN.edits))
    assert {cell.stage for cell in work.examine(both, ground).cells} == {"projection"}
    assert {cell.stage for cell in work.examine(replace(both, whole=True), ground).cells} == {"projection", "shading"}


def test_a_bug_at_another_stage_than_expected_is_misplaced(ground):
    assert fate(replace(SIGN, stage="projection"), ground).fate is Fate.MISPLACED


def test_an_undetected_bug_fails_unless_it_is_declared_below_resolution(ground):
    assert fate(TINY, ground).fate is Fate.MISSED
    assert fate(replace(TINY, below="1e-12 is less than a bit"), ground).fate is Fate.BELOW
    assert fate(replace(SIGN, below="wrongly"), ground).fate is Fate.VISIBLE


def test_a_loose_bound_makes_the_self_test_fail(ground, monkeypatch):
    monkeypatch.setattr("parity.verdict.judge.__defaults__", (1e12,))
    assert fate(SIGN, ground).fate is Fate.MISSED


def test_reassociation_is_let_through_and_a_drift_is_an_alarm(ground):
    quiet = judge_harmless(SUM, work.examine(task_of(SUM, False), ground))
    assert quiet.fate is Fate.QUIET
    assert quiet.largest is not None
    loud = replace(SUM, edits=SIGN.edits)
    assert judge_harmless(loud, work.examine(task_of(loud, False), ground)).fate is Fate.ALARM


@pytest.mark.parametrize("name", ["inputs strided", "inputs unaligned", "another thread", "run twice", "2 threads"])
def test_settings_change_no_value(ground, name):
    outcome = work.examine(Task(id="x", variant="eval", setting=name, whole=True, hunted=False), ground)
    assert not outcome.noticed
    assert len(outcome.cells) == 2


def test_a_stage_that_raises_is_placed(ground):
    broken = bug(
        "eval",
        "shading",
        "raises",
        "crash",
        "renderer.py",
        "basis_BKHW = torch.stack(functions, dim=1)",
        "basis_BKHW = torch.stack(functions, dim=9)",
    )
    found = fate(broken, ground)
    assert (found.fate, found.named) == (Fate.PLACED, "shading")


def test_drawing_and_writing_into_inputs_are_placed(ground):
    draw = bug(
        "eval",
        "projection",
        "draw",
        "draw",
        "camera.py",
        "    scale, shift = ",
        "    torch.rand(1)\n    scale, shift = ",
    )
    write = bug(
        "eval",
        "shading",
        "write",
        "aliasing",
        "renderer.py",
        "    basis_BKHW = torch.stack(functions, dim=1)",
        "    basis_BKHW = torch.stack(functions, dim=1)\n    normal_B3HW.zero_()",
    )
    for item in (draw, write):
        found = fate(item, ground)
        assert (found.fate, found.seen["side effects"]) == (Fate.PLACED, "found")


def test_a_change_of_a_file_that_is_not_read_is_an_error(ground):
    elsewhere = Task(id="x", variant="eval", edits=(Edit("detail/displacement.py", "= 2, 5", "= 5, 2"),))
    with pytest.raises(ValueError, match="not read by this run"):
        work.examine(elsewhere, ground)
    with pytest.raises(MutationError, match="0 times"):
        work.examine(Task(id="x", variant="eval", edits=(Edit("camera.py", "no such text", ""),)), ground)


def test_a_named_function_can_come_from_elsewhere(ground):
    outcome = work.examine(task_of(SIGN, False), ground, lambda place, stage, tensor: [f"{stage}.py:{tensor}"])
    assert outcome.named.functions == ["shading.py:shading_images"]


@pytest.fixture
def in_threads(monkeypatch):
    @contextmanager
    def threads(count):
        with ThreadPoolExecutor(1) as executor:
            yield executor

    monkeypatch.setattr(pool, "_pool", threads)


def test_finished_outcomes_are_kept_and_a_run_goes_on(ground, in_threads, tmp_path, monkeypatch):
    def run(items):
        tasks = [(task_of(item, False), ground) for item in items]
        return [found for _, _, found in pool.run_tasks(tasks, console=Console(quiet=True), kept=tmp_path / "kept")]

    (first,) = run([SIGN])
    (stored,) = (tmp_path / "kept").iterdir()
    assert read_outcome(stored) == first
    calls = []
    real = work.examine
    monkeypatch.setattr(work, "examine", lambda task, *rest: calls.append(task.id) or real(task, *rest))
    assert first in run([SIGN, FIRST])
    assert calls == [FIRST.id]


def test_other_floors_or_another_change_are_examined_anew(ground):
    task = task_of(SIGN, False)
    key = pool.outcome_key(task, ground, None)
    assert pool.outcome_key(task_of(FIRST, False), ground, None) != key
    ground.floors.write_text(ground.floors.read_text() + " ")
    assert pool.outcome_key(task, ground, None) != key


def test_the_whole_fails_with_one_bug_missed_and_passes_without(ground, monkeypatch):
    wanted = Wanted(pipeline="coarse")
    for bugs, code, word in (([SIGN, FIRST], 0, "Yes"), ([SIGN, TINY], 1, "No"), ([], 2, "Cannot tell")):
        monkeypatch.setattr(Wanted, "bugs", lambda self, bugs=bugs: bugs)
        monkeypatch.setattr(Wanted, "harmless", lambda self: [])
        outcomes = {(0, item.id): work.examine(task_of(item, False), ground) for item in bugs}
        result = judged(wanted, outcomes, {}, command="", seconds=0.0)
        assert result.exit_code == code
        assert result.answer.startswith(word)
