"""The self-test as a user runs it: what it is held against, the work in processes, kept outcomes, progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import repeat
from pathlib import Path

from rich.console import Console

from parity import worker
from parity.audit import CACHE, committed_floors, crew, floor_facts, floor_key, measure, trace_key, trace_place, traced
from parity.environment import fingerprint
from parity.fresh import in_fresh_process
from parity.noise import C, read_floors, write_floors
from parity.selftest import examine as work
from parity.selftest import spectrum
from parity.selftest.bug import Bug
from parity.selftest.bugs_coarse import COARSE_BUGS
from parity.selftest.bugs_detail import DETAIL_BUGS
from parity.selftest.examine import Locate
from parity.selftest.harmless import HARMLESS, Harmless
from parity.selftest.outcome import Ground, Outcome, Task
from parity.selftest.pool import KEPT, PROCESSES, CannotTell, run_tasks
from parity.selftest.rasters import remembered
from parity.selftest.sensitivity import smallest_errors
from parity.selftest.verdicts import SelfTest, answer, exit_code, failures, judge_bug, judge_harmless, tails
from parity.session import Request, usable_batch
from parity.trace import is_stored
from parity.worker import RunSpec

BUGS: tuple[Bug, ...] = (*COARSE_BUGS, *DETAIL_BUGS)
Note = Callable[[str], None]


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
        """The harmless variants of the asked pipelines; those of the sweep with `full` or by name."""
        chosen = [variant for variant in HARMLESS if self._asked(variant)]
        return [variant for variant in chosen if self.full or self.only or not variant.sweep]

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
    trace = trace_place(spec, "legacy")
    return Ground(
        spec=spec,
        variant=variant,
        reference=trace,
        repeats=KEPT / "repeats" / trace.name,
        floors=usable_floors(spec, variant),
        spectrum=KEPT / "spectra" / f"{trace_key(spec, 'modern')}.json",
        rasters=KEPT / "rasters",
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
    command = "python -m parity floor" if spec.seed == 0 else f"python -m parity selftest --seeds {spec.seed} --measure"
    raise CannotTell(f"no noise floors of {variant} (seed {spec.seed}) for this platform; measure them with: {command}")


def prepare(ground: Ground, note: Note) -> None:
    """Make what is missing: legacy's trace and further replays, and what each stage of modern runs."""
    for there, name, job in (
        (is_stored(ground.reference), "legacy's training step", worker.trace_to),
        (is_stored(ground.repeats), "legacy's repeated updates", work.prepare_repeats),
        (ground.spectrum.exists(), "what each stage runs", record_spectrum),
    ):
        if there:
            continue
        note(f"{ground.variant}, seed {ground.spec.seed}: {name}")
        arguments = (ground.spec, "legacy", ground.reference) if job is worker.trace_to else (ground,)
        in_fresh_process(job, *arguments)


def measure_floors(spec: RunSpec, note: Note) -> None:
    """Measure all noise floors of a run that has none and keep them in the cache: minutes to an hour."""
    with crew() as members:
        if not is_stored(trace_place(spec, "legacy")):
            note(f"{spec.pipeline}, seed {spec.seed}: legacy's training step")
        reference = traced(spec, members, ("legacy",))["legacy"]
        note(f"{spec.pipeline}, seed {spec.seed}: noise floors")
        floors = measure(spec, reference, {"isolated": set(), "chained": set()}, members, everything=True)
    write_floors(CACHE / "floors" / f"{floor_key(spec)}.json", floors, floor_facts(spec))


def record_spectrum(ground: Ground) -> None:
    """Find and keep what each stage of modern runs."""
    with remembered(ground.rasters, keep=True):
        spectrum.write(spectrum.record(ground.spec, ground.reference), ground.spectrum)


def selftest(
    wanted: Wanted, *, command: str, console: Console, measuring: bool = False, locate: Locate | None = None
) -> SelfTest:
    """Plant everything that is asked for and judge what the audit said.

    Args:
        wanted: which bugs and variants, with which seeds.
        command: how it was called, for the report.
        console: for progress.
        measuring: measure noise floors that are missing instead of giving up.
        locate: names functions inside a drifting stage, see `examine`.

    Raises:
        CannotTell: no noise floors, or processes are killed.
        MutationError: a change no longer fits the source.
        ValueError: an unknown id.
    """
    wanted.check()
    start = time.perf_counter()
    items: list[Bug | Harmless] = [*wanted.bugs(), *wanted.harmless()]
    used = {item.variant for item in items}
    specs = {key: spec for key, spec in wanted.specs().items() if key[1] in used}

    def note(text: str) -> None:
        console.print(text, soft_wrap=True)

    grounds: dict[tuple[int, str], Ground] = {}
    for (seed, variant), spec in specs.items():
        try:
            grounds[seed, variant] = ground_of(spec, variant)
        except CannotTell:
            if not measuring:
                raise
            measure_floors(spec, note)
            grounds[seed, variant] = ground_of(spec, variant)
    with ThreadPoolExecutor(PROCESSES) as threads:  # each only waits for processes of its own
        list(threads.map(prepare, grounds.values(), repeat(note)))
    tasks = [
        (task_of(item, wanted.full), grounds[seed, item.variant])
        for seed in wanted.seeds
        for item in items
        if isinstance(item, Bug) or not item.missing
    ]
    outcomes = {
        (ground.spec.seed, task.id): outcome
        for task, ground, outcome in run_tasks(tasks, console=console, locate=locate)
    }
    note("the smallest error seen at each stage")
    return judged(
        wanted, outcomes, _smallest(list(grounds.values())), command=command, seconds=time.perf_counter() - start
    )


def judged(
    wanted: Wanted,
    outcomes: Mapping[tuple[int, str], Outcome],
    smallest: dict[tuple[str, str], float],
    *,
    command: str,
    seconds: float,
) -> SelfTest:
    """All outcomes, by seed and id, as one result."""
    bugs = [judge_bug(bug, outcomes[seed, bug.id], seed) for seed in wanted.seeds for bug in wanted.bugs()]
    variants = [(seed, item) for seed in wanted.seeds for item in wanted.harmless()]
    harmless = [judge_harmless(item, outcomes.get((seed, item.id)), seed) for seed, item in variants]
    seen = [(item, outcomes[seed, item.id]) for seed, item in variants if (seed, item.id) in outcomes]
    return SelfTest(
        answer=answer(bugs, harmless),
        exit_code=exit_code(bugs, harmless),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        c=C,
        environment=fingerprint(),
        bugs=bugs,
        harmless=harmless,
        tails=tails(bugs, seen, smallest),
        seconds=seconds,
        failures=failures(bugs, harmless),
    )


def _smallest(grounds: Sequence[Ground]) -> dict[tuple[str, str], float]:
    """(pipeline, stage) -> smallest error seen, in each pipeline's first variant."""
    firsts = list({ground.spec.pipeline: ground for ground in reversed(grounds)}.values())
    with ThreadPoolExecutor(PROCESSES) as threads:
        found = list(threads.map(partial(in_fresh_process, smallest_errors), firsts))
    return {
        (ground.spec.pipeline, stage): error
        for ground, errors in zip(firsts, found, strict=True)
        for stage, error in errors.items()
    }
