"""What a search for the culprit is made on: one stage of each side replayed on the reference's recorded inputs.

Modern runs in the calling process. Legacy's part is kept under .cache/tapes; where it is not there, it is made in a
process of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from torch import Tensor

from parity import worker
from parity.files import CACHE, ROOT, tree_digest
from parity.fresh import in_fresh_process
from parity.optimizer import Anatomy, take_apart
from parity.optimizer_watch import Update, read_update, watched_update, write_update
from parity.perturb import perturbed
from parity.roots import roots
from parity.tape import Tape, record, with_floors
from parity.tape_file import read_tape, write_tape
from parity.trace import load_trace
from parity.worker import RunSpec

DRAWS = 2  # replays on moved inputs that measure the floor of every intermediate value
_SOURCES = ("ops", "sketch", "tape", "tape_file", "culprit_tapes", "optimizer_watch")


def tape_of(spec: RunSpec, name: str, stage: str, reference: Path, draws: int = 0) -> Tape:
    """Replay one stage of a subject in this process, on the reference's recorded inputs, and write it down.

    Args:
        spec: the run.
        name: legacy or modern.
        stage: a stage that can be replayed.
        reference: folder of legacy's stored trace.
        draws: replays on inputs moved by one ULP, which measure the floor of every intermediate value.
    """
    replay, modules = partial(worker.replay, spec, name, stage), roots(worker._subject(name, spec))
    inputs = _inputs(spec, stage, reference)
    moved = [record(replay, perturbed(inputs, draw), modules) for draw in range(draws)]
    return with_floors(record(replay, inputs, modules), moved)


def legacy_tape(spec: RunSpec, stage: str, reference: Path) -> Tape:
    """Legacy's tape of a stage."""
    return read_tape(_kept(_keep_tape, spec, stage, reference, ".npz"))


def legacy_update(spec: RunSpec, stage: str, reference: Path) -> Update:
    """What legacy's optimizer says of itself in an update stage."""
    return read_update(_kept(_keep_update, spec, stage, reference, ".json"))


def prepare(spec: RunSpec, stage: str, reference: Path) -> None:
    """Make and keep, in this process, what a search needs of legacy."""
    updates = bool(worker.pipeline_of(spec).by_name[stage].gradients)
    keep, suffix = (_keep_update, ".json") if updates else (_keep_tape, ".npz")
    path = _path(stage, reference, suffix)
    if not path.exists():
        keep(spec, stage, reference, path)


def anatomy_of(spec: RunSpec, stage: str, reference: Path) -> Anatomy:
    """The update of an update stage taken apart: modern's in this process, legacy's as recorded."""
    legacy, recorded = legacy_update(spec, stage, reference), load_trace(reference).stage(stage)
    inputs = _inputs(spec, stage, reference)
    with watched_update(inputs) as found:
        results = worker.replay(spec, "modern", stage, inputs)
    return take_apart(inputs, legacy, recorded, found[0], results)


def _keep_tape(spec: RunSpec, stage: str, reference: Path, path: Path) -> None:
    write_tape(path, tape_of(spec, "legacy", stage, reference, DRAWS))


def _keep_update(spec: RunSpec, stage: str, reference: Path, path: Path) -> None:
    inputs = _inputs(spec, stage, reference)
    with watched_update(inputs) as found:
        worker.replay(spec, "legacy", stage, inputs)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_update(path, found[0])


def _inputs(spec: RunSpec, stage: str, reference: Path) -> Mapping[str, Tensor]:
    world = worker.recorded_world(spec, load_trace(reference))
    return worker.inputs_of(spec, worker.pipeline_of(spec).by_name[stage], world)


def _kept(keep: Callable[..., None], spec: RunSpec, stage: str, reference: Path, suffix: str) -> Path:
    path = _path(stage, reference, suffix)
    if not path.exists():
        in_fresh_process(keep, spec, stage, reference, path)
    return path


def _path(stage: str, reference: Path, suffix: str) -> Path:
    """Where legacy's part of a stage belongs: the trace's name stands for all that shapes it."""
    sources = tree_digest(ROOT / "parity" / f"{name}.py" for name in _SOURCES)
    key = hashlib.sha256(f"{reference.name}\0{sources}".encode()).hexdigest()[:24]
    return CACHE / "tapes" / f"{key}-{stage}{suffix}"
