"""One request of a user: which subjects and cells, progress while they run, judgement, and the files that come out."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import TimeRemainingColumn

from parity.environment import fingerprint
from parity.pipelines import BOTH, choose
from parity.reproduce.answer import answer, recipe
from parity.reproduce.cell import BASELINE, FLOOR, Cell
from parity.reproduce.cells import cells
from parity.reproduce.engine import Engine
from parity.reproduce.judge import Judged, judge, noise_floors
from parity.reproduce.operations import MOST
from parity.reproduce.page import write_page
from parity.reproduce.ranking import explained, measured_directly, shares, variances
from parity.reproduce.results import Invariance, Matrix, SubjectResults, write_matrix
from parity.reproduce.run import Run
from parity.reproduce.words import Word, worst
from parity.session import check_device, counting
from parity.wording import enumerated

SUBJECTS = ("legacy", "modern")
STEPS, _LEAST_DETAIL = 2, 64


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user asked for; `cells` is a comma-separated list of ids, None for all."""

    subject: str = BOTH
    pipeline: str = BOTH
    device: str = "cpu"
    cells: str | None = None
    steps: int | None = None
    raster: int = 64

    def runs(self) -> list[Run]:
        """The baseline of each subject and pipeline.

        Raises:
            ValueError: an unknown subject, pipeline or device.
        """
        check_device(self.device)
        if self.raster < 32 or self.raster % 32:
            raise ValueError(f"raster is {self.raster}, expected a multiple of 32 (224 is full size)")
        if ":" in self.subject:
            return [self._run(self.subject, self.pipeline if self.pipeline != BOTH else "own")]
        if self.subject not in (*SUBJECTS, BOTH):
            raise ValueError(f"unknown subject {self.subject!r}; known: {', '.join(SUBJECTS)}, {BOTH}, module:function")
        names = SUBJECTS if self.subject == BOTH else (self.subject,)
        return [self._run(name, pipeline.name) for pipeline in choose(self.pipeline) for name in names]

    def wanted(self) -> set[str]:
        """Ids of the cells asked for."""
        return {name.strip() for name in (self.cells or "").split(",") if name.strip()}

    def _run(self, subject: str, pipeline: str) -> Run:
        if pipeline == "detail" and self.raster < _LEAST_DETAIL:
            raise ValueError(
                f"raster is {self.raster}: the detail stage needs {_LEAST_DETAIL}, or batch norms see two values each "
                "and one ULP moves gradients by more than their own size"
            )
        steps = self.steps or STEPS
        return Run(subject=subject, pipeline=pipeline, device=self.device, steps=steps, raster=self.raster)


def chosen(request: Request, run: Run) -> list[Cell]:
    """The cells of a run that were asked for, with the references and the noise floor that they need."""
    every = cells(run)
    if not request.cells:
        return every
    by_id = {cell.id: cell for cell in every}
    needed = request.wanted() & set(by_id)
    while more := {by_id[name].against for name in needed if by_id[name].against} - needed:
        needed |= more
    return [cell for cell in every if cell.id in needed or (cell.group == FLOOR and cell.against in needed)]


def planned(request: Request) -> list[tuple[Run, list[Cell]]]:
    """Each subject and pipeline with its cells; what one of them does not have another may.

    Raises:
        ValueError: an unknown subject, pipeline or device, or an id that no cell has.
    """
    runs = request.runs()
    known = dict.fromkeys(cell.id for run in runs for cell in cells(run))
    if unknown := request.wanted() - set(known):
        raise ValueError(f"unknown cell {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    plan = [(run, chosen(request, run)) for run in runs]
    return [(run, part) for run, part in plan if part]


def reproduce(request: Request, engine: Engine, *, command: str, console: Console) -> Matrix:
    """Run what `request` asks for and judge it.

    Raises:
        ValueError: an unknown subject, pipeline, cell or device, or another run in the same folder.
    """
    plan = planned(request)
    start, found, kept = time.perf_counter(), list[SubjectResults](), list[str]()
    with engine.alone(), counting(console, TimeRemainingColumn()) as bar:
        task = bar.add_task("cells", total=sum(bool(cell.runs) for _, part in plan for cell in part))
        for run, part in plan:
            name = _name(run)

            def done(cell: Cell, result: Mapping[str, Any], name: str = name) -> None:
                bar.advance(task)
                state = result["notes"].get("error", "kept" if result.get("kept") else "done")
                kept.extend([cell.id] * bool(result.get("kept")))
                bar.update(task, description=f"{name}: {cell.id}")
                if not console.is_terminal:
                    console.print(f"{name}: {cell.id}: {state}"[:300], soft_wrap=True, markup=False)

            found.append(assemble(run, part, engine.run(part, done)))
    if kept:
        console.print(f"{len(kept)} cells kept from an earlier run of the same sources, not run again", soft_wrap=True)
    return Matrix(
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=command,
        answer=found[0].answer if len(found) == 1 else headline(found),
        exit_code=exit_code(found),
        jobs=engine.jobs,
        seconds=time.perf_counter() - start,
        environment=fingerprint(),
        subjects=found,
    )


def _name(run: Run | SubjectResults) -> str:
    return f"{run.subject.rpartition('.')[2]} {run.pipeline}"


def assemble(run: Run, part: Sequence[Cell], found: Mapping[str, dict[str, Any]]) -> SubjectResults:
    """Judge all cells of one subject and pipeline."""
    floors = noise_floors(part, found)
    usual = floors.get(BASELINE, {})  # references that differ from the baseline by one setting have its floor
    every = [judge(cell, found.get(cell.id), found.get(cell.against), floors.get(cell.against, usual)) for cell in part]
    noise = [cell for cell in every if cell.group == FLOOR and cell.against == BASELINE]
    judged = [cell for cell in every if cell.group != FLOOR and (cell.against or cell.word is not Word.NOT_RUN)]
    ranked, direct = shares(judged), measured_directly(judged)
    parts = explained(variances(judged), direct)
    quantities = {name for cell in noise for name in cell.effects}
    return SubjectResults(
        subject=run.subject,
        pipeline=run.pipeline,
        steps=run.steps,
        raster=run.raster,
        answer=answer(_name(run), judged, ranked, parts),
        recipe=recipe(judged, ranked),
        cells=judged,
        shares=ranked,
        direct=direct,
        explained=parts,
        floor={name: max(cell.effects.get(name, 0.0) for cell in noise) for name in sorted(quantities)},
        invariance=invariance(judged),
    )


_AXES = {
    "threads 2": ("threads", "2 instead of 1"),
    "threads 4": ("threads", "4 instead of 1"),
    "beside": ("batch", "3 clips instead of 1"),
    "permuted": ("batch", "3 clips in another order"),
    "channels last": ("layout", "channels last"),
    "company": ("batch", "other pictures beside it"),
    "device": ("device", "GPU instead of CPU"),
}


def invariance(judged: Sequence[Judged]) -> list[Invariance]:
    """The invariance map: for each axis what moves first."""
    found = []
    for cell in judged:
        if cell.id in _AXES:
            axis, setting = _AXES[cell.id]
            log = cell.operation or {}
            moved = log.get("moved") or {}
            ran = cell.word in (Word.BITWISE, Word.NOISE, Word.MOVED)
            found.append(
                Invariance(
                    axis=axis,
                    setting=setting,
                    stage=cell.stage,
                    operation=_operation(log, moved),
                    module=moved.get("module", ""),
                    source=moved.get("source", ""),
                    compared=moved.get("compared", log.get("compared")),
                    why_not="" if ran else cell.reason,
                )
            )
    return found


def _operation(log: Mapping[str, Any], moved: Mapping[str, Any]) -> str:
    if not moved:
        return f"none of the first {MOST:,}" if log.get("compared") == MOST else ""
    return moved["op"].removesuffix(".default") + (" (another operation from here on)" if moved["changed"] else "")


_SAID = {
    Word.MOVED: ("does not reproduce", "do not reproduce"),
    Word.NOISE: ("reproduces within its noise only", "reproduce within their noise only"),
    Word.BITWISE: ("gives the same bytes", "give the same bytes"),
    None: ("was not measured", "were not measured"),
}


def headline(found: Sequence[SubjectResults]) -> str:
    """What several subjects do as shipped, in one sentence."""
    groups: dict[Word | None, list[str]] = {word: [] for word in _SAID}
    for part in found:
        groups[worst(cell.word for cell in part.cells if cell.shipped_again)].append(_name(part))
    clauses = [f"{enumerated(names)} {_SAID[word][len(names) > 1]}" for word, names in groups.items() if names]
    return f"As shipped, in fresh processes on this machine, {'; '.join(clauses)}."


def exit_code(found: Sequence[SubjectResults]) -> int:
    """0: everything as shipped reproduces (bitwise or within noise), 1: something does not, 2: cannot tell."""
    words = [cell.word for part in found for cell in part.cells if cell.id.startswith("as shipped ")]
    if Word.MOVED in words:
        return 1
    errors = any(cell.word is Word.ERROR for part in found for cell in part.cells)
    return 2 if errors or not words else 0


def publish(matrix: Matrix, out: Path, json: Path | None = None) -> None:
    """Write reproduce.html and reproduce.json into `out`, each atomically."""
    out.mkdir(parents=True, exist_ok=True)
    write_matrix(matrix, out / "reproduce.json")
    write_page(matrix, out / "reproduce.html")
    if json:
        write_matrix(matrix, json)
