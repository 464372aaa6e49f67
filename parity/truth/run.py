"""A truth run: which inputs are measured in which process, progress, and what is kept for the next run."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress

from parity import worker
from parity.audit import Crew, crew, trace_key, trace_place
from parity.environment import fingerprint, platform_key
from parity.files import CACHE, tree_digest
from parity.noise import DRAWS
from parity.pipelines import BOTH, choose, select_stages
from parity.schema import Skipped
from parity.session import counting, usable_batch
from parity.sources import closure
from parity.stages import Pipeline
from parity.trace import is_stored
from parity.truth import work
from parity.truth.assemble import answer, collect, exit_code, make_rows, with_floor
from parity.truth.schema import TruthResults, TruthRow, Word
from parity.truth.statistics import ALPHA
from parity.worker import RunSpec

INPUTS = 20
CHECKED = 2  # inputs on which legacy's code is run in float64 too: a formula differs on every input, rounding on none


@dataclass(frozen=True, kw_only=True)
class TruthRequest:
    """What a user asked for; `stages` is a comma-separated list, None for all; `jobs` processes work at a time."""

    batch: str = "carphone_0040"
    pipeline: str = BOTH
    stages: str | None = None
    inputs: int = INPUTS
    jobs: int = 1


def measure(request: TruthRequest, *, command: str, console: Console) -> TruthResults:
    """Run what is asked for; finished stages of finished inputs come from .cache/truth.

    Raises:
        ValueError: unknown pipeline or stage, or an unusable batch.
    """
    start, chosen = time.perf_counter(), choose(request.pipeline)
    stages = select_stages(request.stages, chosen)
    batch, skipped = usable_batch(request.batch)
    found: dict[Any, Any] = {}
    problems: dict[Any, str] = {}
    with crew() as members, _progress(console) as bar:
        specs = {pipeline.name: spec_of(pipeline, batch) for pipeline in chosen}
        keys = {name: truth_key(spec) for name, spec in specs.items()}  # of the sources as they are now
        for pipeline in chosen:
            wanted = tuple(name for name in stages[pipeline.name] if name in exercised(pipeline))
            folder = CACHE / "truth" / keys[pipeline.name]
            stored = _measure_pipeline(specs[pipeline.name], folder, wanted, request, members, bar) if wanted else []
            distances, broken = collect(pipeline.name, stored)
            found |= distances
            problems |= broken
            members.fresh()
        rows = [_floored(row, specs[row.pipeline], members) for row in make_rows(found, problems)]
    return TruthResults(
        answer=answer(rows),
        exit_code=exit_code(rows),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        alpha=ALPHA,
        scope=_scope(batch, request),
        environment=fingerprint(),
        keys=keys,
        rows=rows,
        not_exercised=[
            *skipped,
            *(item for pipeline in chosen for item in not_exercised(pipeline, stages[pipeline.name])),
        ],
        seconds=time.perf_counter() - start,
    )


def spec_of(pipeline: Pipeline, batch: str) -> RunSpec:
    """The run whose stages are measured: one step, without dropout."""
    return RunSpec(batch=batch, pipeline=pipeline.name, dropout=0.0)


def truth_key(spec: RunSpec) -> str:
    """Digest of all that shapes a distance: both sides' traces, and the sources of this measurement."""
    sources = tree_digest(sorted(closure(["parity.truth.work"])))
    return sha256("\0".join([trace_key(spec, "legacy"), trace_key(spec, "modern"), sources]).encode()).hexdigest()[:32]


def exercised(pipeline: Pipeline) -> tuple[str, ...]:
    """Stages that can be replayed."""
    return tuple(stage.name for stage in pipeline.stages if stage.inputs or stage.gradients)


def not_exercised(pipeline: Pipeline, asked: tuple[str, ...]) -> list[Skipped]:
    """What no distance from truth is given for, and why."""
    found = [
        Skipped(
            what=f"{pipeline.name}: {name}", why="cannot be replayed on given inputs: it is state left by a whole step"
        )
        for name in asked
        if name not in exercised(pipeline)
    ]
    if missing := [name for name in exercised(pipeline) if name not in asked]:
        found.append(Skipped(what=f"{pipeline.name}: {', '.join(missing)}", why="not asked for"))
    if "raster" in asked:
        why = "pytorch3d searches for the face of a pixel in float32 on both sides; legacy's choice is given to truth"
        found.append(Skipped(what=f"{pipeline.name}: raster/face_ids", why=why))
    dropouts = [name for name, rate in pipeline.variants.items() if rate]
    found += [
        Skipped(
            what=f"{pipeline.name}: variant {name}",
            why="a dropout mask drawn in float64 is another mask, not a truer one",
        )
        for name in dropouts
    ]
    return found


def _measure_pipeline(
    spec: RunSpec, folder: Path, wanted: tuple[str, ...], request: TruthRequest, members: Crew, bar: _Bar
) -> list[Mapping[str, Any]]:
    reference = trace_place(spec, "legacy")
    if not is_stored(reference):
        bar.say(f"{spec.pipeline}: legacy's training step")
        members.submit("process 0", worker.trace_to, spec, "legacy", reference).result()
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{index}.json" for index in range(request.inputs)]
    jobs = {
        members.submit(
            f"process {index % request.jobs}", work.measure_input, spec, reference, index, wanted, index < CHECKED, file
        ): index
        for index, file in reversed(list(enumerate(files)))  # checked ones last: until then one subject less in memory
    }
    bar.follow(spec.pipeline, jobs, files, wanted)
    return [{name: result for name, result in json.loads(file.read_text()).items() if name in wanted} for file in files]


def _floored(row: TruthRow, spec: RunSpec, members: Crew) -> TruthRow:
    """Measure the noise floor of what came out farther, and only of that."""
    if row.word is not Word.FARTHER:
        return row
    reference = trace_place(spec, "legacy")
    floors = members.submit("process 0", work.stage_floor, spec, reference, row.stage, range(DRAWS)).result()
    return with_floor(row, floors[row.quantity])


def _scope(batch: str, request: TruthRequest) -> dict[str, Any]:
    return {
        "batch": batch,
        "inputs": request.inputs,
        "input 0": "the recorded clip; the others are within a few percent of it",
        "checked with legacy in float64": min(CHECKED, request.inputs),
        "device": "cpu",
        "platform": platform_key(),
        "threads": 1,
        "torch": torch.__version__,
        "weights": "seeded by name",
    }


class _Bar:
    """Progress over stages of inputs: a bar on a terminal, a line per finished input elsewhere."""

    def __init__(self, bar: Progress, console: Console) -> None:
        self._bar, self._console = bar, console

    def say(self, text: str) -> None:
        """One line."""
        self._console.print(text, soft_wrap=True)

    def follow(self, name: str, jobs: Mapping[Future[Path], int], files: list[Path], wanted: tuple[str, ...]) -> None:
        """Show how far `jobs` are until all have ended; an error of one is raised."""
        task = self._bar.add_task(name, total=len(files) * len(wanted))
        left = set(jobs)
        while left:
            done, left = wait(left, timeout=1, return_when=FIRST_COMPLETED)
            for job in done:
                job.result()
                if not self._console.is_terminal:
                    self.say(f"{name}: input {jobs[job] + 1} of {len(jobs)}")
            self._bar.update(task, completed=sum(len(_finished(file) & set(wanted)) for file in files))


def _finished(file: Path) -> set[str]:
    return set(json.loads(file.read_text())) if file.exists() else set()


@contextmanager
def _progress(console: Console) -> Iterator[_Bar]:
    with counting(console) as bar:
        yield _Bar(bar, console)
