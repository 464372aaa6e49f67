"""The self-test as a user runs it: what it is held against, the work in processes, kept outcomes, progress."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from parity import worker
from parity.audit import CACHE, committed_floors, floor_key, trace_key
from parity.files import tree_digest
from parity.noise import read_floors
from parity.schema import plain
from parity.selftest import examine as work
from parity.selftest import spectrum
from parity.selftest.bug import Bug
from parity.selftest.bugs_coarse import COARSE_BUGS
from parity.selftest.bugs_detail import DETAIL_BUGS
from parity.selftest.examine import Locate
from parity.selftest.harmless import HARMLESS, Harmless
from parity.selftest.outcome import Ground, Outcome, Task, read_outcome, write_outcome
from parity.session import Request, usable_batch
from parity.sources import closure
from parity.worker import RunSpec

BUGS: tuple[Bug, ...] = (*COARSE_BUGS, *DETAIL_BUGS)
PROCESSES = 2
KEPT = CACHE / "selftest"
Note = Callable[[str], None]


class CannotTell(ValueError):
    """What the self-test needs is not there; the message says how to make it."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a user asked for; `only` names bugs and variants by id, empty means all."""

    batch: str = "carphone_0040"
    pipeline: str = "both"
    only: frozenset[str] = frozenset()
    seeds: tuple[int, ...] = (0,)
    full: bool = False

    def specs(self) -> dict[tuple[int, str], RunSpec]:
        """(seed, variant) -> run; seed 0 is the audit's default run, others have weights of their own too."""
        batch, _ = usable_batch(self.batch)
        found = {}
        for seed in self.seeds:
            for variant, spec in Request(pipeline=self.pipeline, seed=seed).variants(batch).items():
                found[seed, variant] = replace(spec, weights_prefix=f"seed{seed}/" if seed else "")
        return found

    def bugs(self) -> list[Bug]:
        """The bugs of the asked pipelines."""
        return [bug for bug in BUGS if self._asked(bug)]

    def harmless(self) -> list[Harmless]:
        """The harmless variants of the asked pipelines."""
        return [variant for variant in HARMLESS if self._asked(variant)]

    def _asked(self, item: Bug | Harmless) -> bool:
        return self.pipeline in ("both", item.pipeline) and (not self.only or item.id in self.only)

    def check(self) -> None:
        """Raise ValueError for an id that no bug and no variant has."""
        known = {bug.id for bug in BUGS} | {variant.id for variant in HARMLESS}
        if unknown := sorted(self.only - known):
            raise ValueError(f"unknown id {', '.join(unknown)}; known: {', '.join(sorted(known))}")


def task_of(item: Bug | Harmless, full: bool) -> Task:
    """How an item is examined: bugs up to the first drift (all the way with `full`), harmless variants all the way."""
    if isinstance(item, Bug):
        return Task(id=item.id, variant=item.variant, edits=item.edits, step=item.step or full, whole=full)
    return Task(
        id=item.id,
        variant=item.variant,
        edits=item.edits,
        setting=item.setting,
        environment=item.environment,
        step=item.step or full,
        whole=True,
        hunted=False,
    )


def ground_of(spec: RunSpec, variant: str) -> Ground:
    """Where everything that a variant is held against lies, or will lie."""
    trace = CACHE / "traces" / trace_key(spec, "legacy")
    return Ground(
        spec=spec,
        variant=variant,
        reference=trace,
        repeats=KEPT / "repeats" / trace.name,
        floors=usable_floors(spec, variant),
        spectrum=KEPT / "spectra" / f"{trace_key(spec, 'modern')}.json",
    )


def usable_floors(spec: RunSpec, variant: str) -> Path:
    """The stored floors of a run.

    Raises:
        CannotTell: none were measured for this platform and today's legacy.
    """
    key = floor_key(spec)
    for path in (committed_floors(spec, variant), CACHE / "floors" / f"{key}.json"):
        if path.exists() and read_floors(path)[1].get("key") == key:
            return path
    command = "python -m parity floor" if spec.seed == 0 else "python -m parity selftest --seeds ... --measure"
    raise CannotTell(f"no noise floors of {variant} (seed {spec.seed}) for this platform; measure them with: {command}")


def prepare(grounds: Sequence[Ground], note: Note) -> None:
    """Make what is missing: legacy's traces and further replays, and what each stage of modern runs."""
    for ground in grounds:
        for missing, name, job in (
            (ground.reference / "facts.json", "legacy's training step", worker.trace_to),
            (ground.repeats / "facts.json", "legacy's repeated updates", work.prepare_repeats),
            (ground.spectrum, "what each stage runs", record_spectrum),
        ):
            if missing.exists():
                continue
            note(f"{ground.variant}, seed {ground.spec.seed}: {name}")
            arguments = (ground.spec, "legacy", ground.reference) if job is worker.trace_to else (ground,)
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                pool.submit(job, *arguments).result()


def record_spectrum(ground: Ground) -> None:
    """Find and keep what each stage of modern runs."""
    spectrum.write(spectrum.record(ground.spec, ground.reference), ground.spectrum)


def run_tasks(
    tasks: Sequence[tuple[Task, Ground]],
    *,
    console: Console,
    locate: Locate | None = None,
    processes: int = PROCESSES,
    kept: Path = KEPT / "outcomes",
) -> Iterator[tuple[Task, Ground, Outcome]]:
    """Examine all tasks, `processes` at a time; finished ones are kept, so an interrupted run goes on from there.

    Raises:
        MutationError: a change no longer fits the source.
    """
    places = [kept / f"{outcome_key(task, ground, locate)}.json" for task, ground in tasks]
    done = [index for index, place in enumerate(places) if place.exists()]
    for index in done:
        yield *tasks[index], read_outcome(places[index])
    waiting = sorted(set(range(len(tasks))) - set(done), key=lambda index: _turn(*tasks[index]))
    with _progress(console, len(tasks), len(done)) as advance:
        for index, outcome in _outcomes([(index, *tasks[index]) for index in waiting], locate, processes, console):
            write_outcome(outcome, places[index])
            advance(outcome)
            yield *tasks[index], outcome


def _outcomes(
    tasks: list[tuple[int, Task, Ground]], locate: Locate | None, processes: int, console: Console
) -> Iterator[tuple[int, Outcome]]:
    """Examine tasks in a pool; if the system kills a process, the rest go one at a time, and a second kill is an error.

    Raises:
        CannotTell: a process was killed although it was alone.
    """
    left = {index: (task, ground) for index, task, ground in tasks}
    for count in (processes, 1, 1):
        if not left:
            return
        with _pool(count) as pool:
            jobs = {pool.submit(work.examine, *pair, locate): index for index, pair in left.items()}
            try:
                for job in as_completed(jobs):
                    outcome = job.result()
                    del left[jobs[job]]
                    yield jobs[job], outcome
            except BrokenProcessPool:
                console.print("a process was killed, perhaps for want of memory; going on with one", soft_wrap=True)
    if left:
        raise CannotTell(
            f"processes are killed here, perhaps for want of memory (4 GB each); left: {len(left)} of {len(tasks)}"
        )


def _turn(task: Task, ground: Ground) -> tuple[int, str, bool]:
    """Runs of one kind together, so that a process keeps its weights; those with processes of their own first."""
    return (ground.spec.seed, ground.spec.pipeline + ground.variant, not task.environment)


def outcome_key(task: Task, ground: Ground, locate: Locate | None) -> str:
    """Digest of all that shapes an outcome: change, sources of modern and of the audit, legacy's trace, floors."""
    sources = closure(["parity.selftest.examine", *([locate.__module__] if locate else [])])
    parts = (
        json.dumps(plain(task), sort_keys=True),
        ground.reference.name,
        ground.spectrum.name,
        hashlib.sha256(ground.floors.read_bytes()).hexdigest(),
        tree_digest(sorted(sources)),
        f"{locate.__module__}.{locate.__qualname__}" if locate else "",
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


@contextmanager
def _pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """A pool whose processes are gone afterwards, also after an interruption."""
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
    try:
        yield pool
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _progress(console: Console, total: int, done: int) -> Iterator[Callable[[Outcome], None]]:
    """A bar on a terminal, one line per outcome elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    start = time.perf_counter()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        line, count = bar.add_task("planting", total=total, completed=done), done

        def advance(outcome: Outcome) -> None:
            nonlocal count
            count += 1
            bar.update(line, advance=1, description=outcome.id)
            if not console.is_terminal:
                named = f"{outcome.named.stage} ({outcome.named.mode})" if outcome.named else "nobody"
                told = "" if outcome.named else f" {'; '.join(outcome.structure)[:80]}"
                console.print(
                    f"{count}/{total} {time.perf_counter() - start:.0f} s  {outcome.id}: {named}{told}", soft_wrap=True
                )

        yield advance
