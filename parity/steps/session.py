"""All arms of one pipeline, run in two processes and judged: what `python -m parity steps` does before it prints."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from parity.audit import Crew, crew, trace_key
from parity.environment import platform_key
from parity.files import CACHE, prune, tree_digest
from parity.session import counting
from parity.sources import closure
from parity.steps.arms import FIRST_STEPS, Arm, arms
from parity.steps.curve import read_curve
from parity.steps.distance import Distance, distance
from parity.steps.judge import Growth, Judgement, Step, growth, horizon, judge_run, told
from parity.steps.run import done, run_arm
from parity.worker import RunSpec

KEPT_RUNS = 4  # folders of finished runs that stay in the cache
_PROCESSES = ("legacy", "modern")  # two processes; either runs any arm
_POLL = 0.5  # seconds


@dataclass(frozen=True, kw_only=True)
class StepsReport:
    """Everything that was found of one pipeline.

    losses: arm -> sum of the losses after each step. distances: arm -> against legacy. kinds: arm -> what it is.
    growths: arm -> growth of its weight distance. controls: planted bug -> the step that tells it, None if none does.
    """

    pipeline: str
    judgement: Judgement
    horizon: int
    steps: int
    pixels: int
    losses: dict[str, list[float]]
    distances: dict[str, Distance]
    kinds: dict[str, str]
    growths: dict[str, Growth]
    controls: dict[str, Step | None]
    scope: dict[str, Any]
    seconds: float
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))


def compare_steps(
    spec: RunSpec, *, steps: int, draws: int, pixels: int, console: Console, processes: int = 2
) -> StepsReport:
    """Run every arm of `spec`'s pipeline and judge modern; with one process, one subject at a time is in memory.

    Raises:
        ValueError: fewer than one step or two noise arms, which would leave nothing to hold a number against.
    """
    if steps < 1 or draws < 2:
        raise ValueError(f"steps {steps}, draws {draws}: at least 1 step and 2 noise arms are needed")
    start, planned = time.perf_counter(), arms(draws)
    lengths = {arm.name: min(steps, FIRST_STEPS) if arm.first_steps_only else steps for arm in planned}
    folders = {arm.name: _folder(spec, arm, pixels) for arm in planned}
    with crew() as members:
        paths = _run(spec, planned, lengths, folders, pixels, members, console, _PROCESSES[:processes])
    prune(CACHE / "steps", KEPT_RUNS, keep={folder.parent for folder in folders.values()})
    curves = {name: read_curve(path).first(lengths[name]) for name, path in paths.items()}
    reference = curves["legacy"]
    distances = {name: distance(curve, reference) for name, curve in curves.items() if name != "legacy"}
    kinds: dict[str, str] = {arm.name: arm.kind for arm in planned}
    noise = {name: found for name, found in distances.items() if kinds[name] == "noise"}
    controls = {name: told(found, noise) for name, found in distances.items() if kinds[name] == "control"}
    return StepsReport(
        pipeline=spec.pipeline,
        judgement=judge_run(distances["modern"], noise, resolved=any(controls.values())),
        horizon=horizon(noise),
        steps=steps,
        pixels=pixels,
        losses={name: _totals(curve.names, curve.losses) for name, curve in curves.items()},
        distances=distances,
        kinds=kinds,
        growths={name: growth(found.figures["weights"]) for name, found in distances.items()},
        controls=controls,
        scope={"batch": spec.batch, "seed": spec.seed, "device": spec.device, "platform": platform_key(spec.device)},
        seconds=time.perf_counter() - start,
    )


def _run(
    spec: RunSpec,
    planned: Sequence[Arm],
    lengths: Mapping[str, int],
    folders: Mapping[str, Path],
    pixels: int,
    members: Crew,
    console: Console,
    processes: Sequence[str],
) -> dict[str, Path]:
    """Each process takes the next arm when it is free; arms of one subject stay together where possible."""
    jobs: dict[str, Future[Path]] = {}
    waiting, running = list(planned), dict[str, str]()  # process -> arm
    with counting(console) as bar:
        tasks = {arm.name: bar.add_task(f"{spec.pipeline}: {arm.name}", total=lengths[arm.name]) for arm in planned}
        while waiting or running:
            for process in processes:
                if process in running and jobs[running[process]].done():
                    name = running.pop(process)
                    jobs[name].result()
                    if not console.is_terminal:
                        console.print(f"{spec.pipeline}: {name}, {lengths[name]} steps", soft_wrap=True)
                if process not in running and waiting:
                    arm = _next(process, waiting)
                    waiting.remove(arm)
                    if len(processes) == 1 and arm.subject != process:
                        members.fresh()
                    job = members.submit(process, run_arm, spec, arm, lengths[arm.name], pixels, folders[arm.name])
                    jobs[arm.name], running[process] = job, arm.name
            for name, task in tasks.items():
                finished = name in jobs and jobs[name].done()
                bar.update(task, completed=lengths[name] if finished else min(done(folders[name]), lengths[name]))
            time.sleep(_POLL)
    return {name: job.result() for name, job in jobs.items()}


def _next(process: str, waiting: Sequence[Arm]) -> Arm:
    """Its own subject first, since the other one has to be built."""
    return next((arm for arm in waiting if arm.subject == process), waiting[0])


def _folder(spec: RunSpec, arm: Arm, pixels: int) -> Path:
    """Where an arm is kept: a digest of all that shapes it, but not of how many steps it makes."""
    sources = tree_digest(sorted(closure(["parity.steps.run"])))
    key = trace_key(replace(spec, steps=1), arm.subject)
    return CACHE / "steps" / f"{spec.pipeline}-{sources[:12]}-{pixels}" / f"{key}-{_slug(arm)}"


def _slug(arm: Arm) -> str:
    parts = [arm.kind, *(["weight"] if arm.weight else []), *([f"draw{arm.draw}"] if arm.draw is not None else [])]
    return "-".join([*parts, *(f"{name}x{factor:g}" for name, factor in arm.settings)])


def _totals(names: Sequence[str], losses: Sequence[Any]) -> list[float]:
    """The sum of a step's losses as the subject reports it."""
    index = next(place for place, name in enumerate(names) if name.endswith("all_loss"))
    return [float(values[index]) for values in losses]
