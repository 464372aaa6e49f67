"""Tasks in processes: two at a time, finished ones kept, progress shown, a killed process survived."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from unittest import mock

from rich.console import Console

from parity.audit import CACHE
from parity.files import tree_digest
from parity.schema import plain
from parity.selftest import examine as work
from parity.selftest.examine import Locate
from parity.selftest.outcome import Ground, Outcome, Task, read_outcome, write_outcome
from parity.session import counting
from parity.sources import closure

PROCESSES = 2
KEPT = CACHE / "selftest"


class CannotTell(ValueError):
    """What the self-test needs is not there; the message says how to make it."""


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
    """A pool whose processes are gone afterwards, also after an interruption; their threads sleep while they wait."""
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
    try:
        with mock.patch.dict(os.environ, OMP_WAIT_POLICY="PASSIVE"):  # processes start as tasks come
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
    start = time.perf_counter()
    with counting(console) as bar:
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
