"""What runs in a process of its own: plant one change, replay stages on legacy's recordings, say whom the audit names.

The audit's own functions judge and name (`worker.isolated_stage`, `rows.first_divergence`); nothing here decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from time import perf_counter

import torch

from parity import worker
from parity.audit import Evidence, compare_traces, floor_name
from parity.comparison import Drift, mismatched
from parity.environment import isolated_numerics
from parity.fresh import in_fresh_process
from parity.golden_check import GoldenState
from parity.noise import Floors, read_floors
from parity.rows import first_divergence, make_rows
from parity.selftest.mutation import spots
from parity.selftest.outcome import Cell, Ground, Named, Outcome, Task
from parity.selftest.planting import MODERN, planted, unread
from parity.selftest.rasters import remembered
from parity.selftest.settings import setting
from parity.selftest.spectrum import Spectrum
from parity.selftest.spectrum import read as read_spectrum
from parity.stages import Stage
from parity.structure import compare_structure
from parity.subject import Plan
from parity.trace import Trace, is_stored, load_trace
from parity.verdict import Verdict, excess, judge

# Given the ground, the drifting stage and tensor, while the changed modern is imported: the functions to blame.
Locate = Callable[[Ground, str, str], list[str]]
_BAD = frozenset({Verdict.DRIFT, Verdict.MISSING})


@dataclass
class _Seen:
    """Drifts by mode, and what the step's structure said."""

    drifts: dict[str, dict[str, Drift]] = field(default_factory=lambda: {"chained": {}, "isolated": {}})
    structure: list[str] = field(default_factory=list)
    stepped: bool = False


def examine(task: Task, ground: Ground, locate: Locate | None = None) -> Outcome:
    """Plant `task` and look.

    Args:
        task: what to change.
        ground: what to hold it against.
        locate: names functions inside the drifting stage; without it, those that no agreeing stage runs.

    Raises:
        MutationError: the change no longer fits the source, or the run does not read the changed file.
    """
    start = perf_counter()
    if task.environment:
        told = (replace(task, environment=()), ground, locate)
        found: Outcome = in_fresh_process(examine, *told, variables=dict(task.environment))
        return replace(found, seconds=perf_counter() - start)
    floors, spectrum = read_floors(ground.floors)[0], read_spectrum(ground.spectrum)
    changed = spots(task.edits, MODERN)
    names = [stage.name for stage in worker.pipeline_of(ground.spec).stages]
    reached = spectrum.reach(changed, names) if task.edits else names
    with (
        isolated_numerics(threads=ground.spec.threads),
        planted(task.edits) if task.edits else nullcontext(),
        remembered(ground.rasters),
    ):
        worker._subject("modern", ground.spec)  # sets the numeric switches anew, so before the setting
        with setting(task.setting):
            seen = _look(task, ground, floors, reached)
        if task.edits and (missed := unread(task.edits)):
            raise ValueError(f"{task.id}: modern/{missed[0]} is not read by this run, so the change means nothing here")
        named = _named(ground, floors, seen, spectrum, reached, locate)
    return Outcome(
        id=task.id,
        cells=_cells(seen, floors),
        structure=seen.structure,
        named=named,
        spots=sorted(map(str, changed)),
        reached=reached,
        stepped=seen.stepped,
        seconds=perf_counter() - start,
    )


def _look(task: Task, ground: Ground, floors: Mapping[str, Floors], reached: list[str]) -> _Seen:
    spec, seen = ground.spec, _Seen()
    trace, repeats = _stored(ground.reference), _stored(ground.repeats)
    for stage in worker.pipeline_of(spec).stages:
        if stage.name not in reached or not (stage.inputs or stage.gradients):
            continue
        found = _replayed(ground, stage, trace, repeats)
        seen.drifts["isolated"] |= found
        if not task.whole and _bad(found, "isolated", floors):
            break
    if task.step or (task.hunted and not _bad(seen.drifts["isolated"], "isolated", floors)):
        _step(ground, trace, seen)
    return seen


def _replayed(ground: Ground, stage: Stage, trace: Trace, repeats: Trace) -> dict[str, Drift]:
    """All that the audit replays of one stage: itself, an update several times, a prediction before the update."""
    spec = ground.spec
    try:
        drifts = worker.isolated_stage(spec, "modern", stage, trace) if stage.isolated else {}
        again = Trace(subject="modern")
        worker.replay_further(spec, "modern", stage, worker.recorded_world(spec, trace), again)
        drifts |= compare_traces(repeats, again)
    except Exception as error:
        return {f"{stage.name}/": mismatched(torch.empty(0), f"raises {type(error).__name__}: {error}"[:300])}
    return drifts


def _step(ground: Ground, trace: Trace, seen: _Seen) -> None:
    """Modern's own training step against legacy's recorded one."""
    spec, seen.stepped = ground.spec, True
    try:
        subject = worker._subject("modern", spec)
        found = subject.trace(worker.batch_of(spec), Plan(steps=spec.steps, seed=spec.seed))
    except Exception as error:
        seen.structure.append(f"the step raises {type(error).__name__}: {error}"[:300])
        return
    seen.drifts["chained"] = compare_traces(trace, found)
    facts = compare_structure(trace, found, spec.pipeline)
    seen.structure += [f"{fact.name}: {fact.detail}"[:300] for fact in facts if fact.verdict is Verdict.DRIFT]


def _bad(drifts: Mapping[str, Drift], mode: str, floors: Mapping[str, Floors]) -> bool:
    return any(_judged(mode, key, drift, floors) in _BAD for key, drift in drifts.items())


def _judged(mode: str, key: str, drift: Drift, floors: Mapping[str, Floors]) -> Verdict:
    return judge(drift, floors.get(_kind(mode), {}).get(floor_name(mode, key)))[0]


def _kind(mode: str) -> str:
    return "isolated" if mode == "isolated" else "chained"


def _cells(seen: _Seen, floors: Mapping[str, Floors]) -> list[Cell]:
    worst: dict[tuple[str, str], Cell] = {}
    for mode, drifts in seen.drifts.items():
        for key, drift in drifts.items():
            stage, _, tensor = key.partition("/")
            floor = floors.get(_kind(mode), {}).get(floor_name(mode, key))
            verdict = judge(drift, floor)[0]
            cell = Cell(
                mode=_finer(mode, tensor),
                stage=stage,
                tensor=tensor,
                verdict=verdict,
                ratio=excess(drift, floor),
                rel_l2=drift.rel_l2,
            )
            before = worst.get((cell.mode, stage))
            if before is None or _severity(cell) > _severity(before):
                worst[cell.mode, stage] = cell
    return list(worst.values())


def _finer(mode: str, tensor: str) -> str:
    """The mode of a cell: several updates, and what a replay did besides its outputs, are told apart."""
    if mode == "isolated" and "@" in tensor:
        return "repeated"
    return "side effect" if mode == "isolated" and tensor.startswith(("input ", "random draws")) else mode


def _severity(cell: Cell) -> tuple[int, float]:
    return list(Verdict).index(cell.verdict), cell.ratio


def _named(
    ground: Ground,
    floors: dict[str, Floors],
    seen: _Seen,
    spectrum: Spectrum,
    reached: list[str],
    locate: Locate | None,
) -> Named | None:
    """The culprit by the audit's own rule, and whom it suspects inside the stage."""
    evidence = Evidence(
        spec=ground.spec,
        variant=ground.variant,
        reference=ground.reference,
        legacy=Trace(subject="legacy"),
        modern=Trace(subject="modern"),
        drifts=seen.drifts,
        structure=[],
        golden=GoldenState(state="missing", path="", detail=""),
        floors=floors,
    )
    row = first_divergence(make_rows(evidence))
    if row is None:
        return None
    if locate is not None:
        return Named(stage=row.stage, mode=row.mode, functions=locate(ground, row.stage, row.tensor), by="operation")
    names = worker.pipeline_of(ground.spec).names
    agreeing = [name for name in names[: names.index(row.stage)] if name in spectrum.ran]
    suspects = spectrum.suspects(row.stage, agreeing)
    return Named(
        stage=row.stage, mode=row.mode, functions=[str(spot) for spot in suspects], by="what agreeing stages run"
    )


@lru_cache(maxsize=2)
def _stored(folder: Path) -> Trace:
    return load_trace(folder)


def prepare_repeats(ground: Ground) -> Path:
    """Legacy's further replays (several updates, predictions before the update), kept beside its trace."""
    if not is_stored(ground.repeats):
        worker.replays_to(ground.spec, "legacy", ground.reference, ground.repeats)
    return ground.repeats
