"""One request of a user: which variants to run, progress while they run, and the files that come out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from fixtures.clip import ClipUnavailable
from parity.assemble import assemble
from parity.audit import Crew, Evidence, Say, add_floors, committed_floors, crew, gather
from parity.batch import load_batch
from parity.checkout_check import admitted
from parity.culprit_audit import name_culprit
from parity.files import write_atomically
from parity.pipelines import BOTH, choose, select_stages
from parity.report import write_report
from parity.rows import table
from parity.schema import Results, Skipped, write_results
from parity.worker import RunSpec

FULL_STEPS = 5
FALLBACK = "seeded"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user asked for.

    stages: a comma-separated list, None for all. legacy_root: root of the lab's own checkout of the pipeline's fork.
    """

    batch: str = "carphone_0040"
    pipeline: str = BOTH
    device: str = "cpu"
    seed: int = 0
    steps: int | None = None
    stages: str | None = None
    full: bool = False
    threads: int = 1
    legacy_root: str = ""

    def variants(self, batch: str) -> dict[str, RunSpec]:
        """Variant name -> run."""
        steps = self.steps or (FULL_STEPS if self.full else 1)
        base = RunSpec(
            batch=batch,
            steps=steps,
            seed=self.seed,
            device=self.device,
            threads=self.threads,
            legacy_root=self.legacy_root,
        )
        return {
            name: replace(base, pipeline=pipeline.name, dropout=rate)
            for pipeline in choose(self.pipeline)
            for name, rate in pipeline.variants.items()
        }


def audit(request: Request, *, command: str, console: Console) -> Results:
    """Run what `request` asks for.

    Raises:
        ValueError: unknown pipeline or stage, unusable batch, or a device that is not there.
        CheckoutError: the lab's own checkout lacks what the audit needs of it; the message lists it all.
    """
    stages = select_stages(request.stages, choose(request.pipeline))
    check_device(request.device)
    batch, skipped = usable_batch(request.batch)
    if request.legacy_root:
        skipped += admitted(Path(request.legacy_root), request.pipeline, console)
    timings: dict[str, float] = {}
    with crew() as members, progress(console, timings) as say:
        evidence = [_variant(name, spec, members, say, request.full) for name, spec in request.variants(batch).items()]
        culprit, note = name_culprit(evidence, members, say)
    return assemble(
        evidence,
        command=command,
        timings=timings,
        skipped=skipped,
        stages=stages,
        culprit=culprit,
        culprit_note=note,
    )


def measure_floors(request: Request, *, console: Console) -> list[Path]:
    """Measure all floors of the request's runs and store them for the repository; returns the files."""
    paths = []
    with crew() as members, progress(console, {}) as say:
        for name, spec in request.variants(request.batch).items():
            evidence = gather(spec, members=members, say=say, variant=name)
            add_floors(evidence, members=members, say=say, everything=True)
            members.fresh()
            paths.append(committed_floors(spec, name))
    return paths


def publish(results: Results, out: Path, json: Path | None = None) -> None:
    """Write report.html, results.json, results.csv and junit.xml into `out`, each atomically."""
    from parity.junit import write_junit
    from parity.truth.stored import stored_summary

    pipelines = dict.fromkeys(stage.pipeline for stage in results.stages)
    if "legacy_root" not in results.scope:  # truth runs are of the reconstruction
        results = replace(results, truth=stored_summary(out, results.scope.get("batch", ""), pipelines))
    out.mkdir(parents=True, exist_ok=True)
    write_results(results, out / "results.json")
    write_atomically(out / "results.csv", table(results.rows).to_csv().encode())
    write_junit(results, out / "junit.xml")
    write_report(results, out / "report.html")
    if json:
        write_results(results, json)


def usable_batch(name: str) -> tuple[str, list[Skipped]]:
    """The batch itself, or the seeded one with the reason when the real clip's pixels cannot be had here."""
    try:
        load_batch(name)
    except ClipUnavailable as error:
        return FALLBACK, [Skipped(what=f"batch {name}", why=f"{error}; the seeded batch served instead")]
    return name, []


@contextmanager
def progress(console: Console, timings: dict[str, float]) -> Iterator[Say]:
    """A spinner per running phase on a terminal, plain lines elsewhere; phase lengths go to `timings`, in seconds."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:

        @contextmanager
        def say(phase: str) -> Iterator[None]:
            if not console.is_terminal:
                console.print(phase, soft_wrap=True)
            task, start = bar.add_task(phase, total=None), time.perf_counter()
            try:
                yield
            finally:
                timings[phase] = time.perf_counter() - start
                bar.update(task, total=1, completed=1)

        yield say


def counting(console: Console, *more: ProgressColumn) -> Progress:
    """A bar that counts what is done, on a terminal only; elsewhere the caller prints lines."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), *more)
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _variant(name: str, spec: RunSpec, members: Crew, say: Say, full: bool) -> Evidence:
    evidence = gather(spec, members=members, say=say, variant=name, fresh_repeat=full)
    add_floors(evidence, members=members, say=say)
    members.fresh()  # networks of several variants at once would not fit into a laptop's memory
    return evidence


def check_device(device: str) -> None:
    """Raise ValueError unless `device` is there."""
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {device!r}: no CUDA device here; use --device cpu")
