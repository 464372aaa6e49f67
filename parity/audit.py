"""One audit: both subjects run on one batch in processes of their own, their traces compared, floors measured.

This module moves work and files; it decides nothing. Figures become verdicts in `parity/assemble.py`.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from parity import observer, worker
from parity.batch import load_batch
from parity.causes import covered, under
from parity.checkout import content_digest
from parity.comparison import Drift
from parity.discrete import compare_named
from parity.environment import platform_key
from parity.files import CACHE, ROOT, prune, tree_digest
from parity.golden_check import GoldenState, against_golden
from parity.noise import DRAWS, Floors, read_floors, write_floors
from parity.pipelines import PIPELINES
from parity.sources import closure
from parity.structure import StructuralFinding, compare_structure
from parity.trace import Trace, is_stored, load_trace
from parity.worker import RunSpec

SUBJECTS = ("legacy", "modern")
KEPT_TRACES = 6
Say = Callable[[str], AbstractContextManager[None]]


@dataclass(kw_only=True)
class Evidence:
    """Everything one variant yielded, before any verdict.

    reference: legacy's stored trace.
    drifts: mode -> `stage/tensor` -> figures. Modes: chained, isolated, repeat:legacy, repeat:modern, golden:*.
    floors: mode -> `stage/tensor` -> noise floor; `floor_source` says where they come from, `floor_tree` on
        which legacy tree they were measured: "the reconstruction" or "the checkout"; empty if none were needed.
    """

    spec: RunSpec
    variant: str
    reference: Path
    legacy: Trace
    modern: Trace
    drifts: dict[str, dict[str, Drift]]
    structure: list[StructuralFinding]
    golden: GoldenState
    floors: dict[str, Floors] = field(default_factory=dict)
    floor_source: str = "not needed: everything is identical"
    floor_tree: str = ""


class Crew:
    """One process per subject, started on first use. With `fresh()` the next task gets a new process."""

    def __init__(self) -> None:
        self._pools: dict[str, ProcessPoolExecutor] = {}

    def submit(self, subject: str, task: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Queue `task` in the process of `subject`."""
        if subject not in self._pools:
            self._pools[subject] = ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn"))
        return self._pools[subject].submit(task, *arguments)

    def fresh(self) -> None:
        """Let the running tasks end and forget the processes."""
        for pool in self._pools.values():
            pool.shutdown(wait=True, cancel_futures=True)
        self._pools.clear()

    def stop(self) -> None:
        """End the processes at once, whatever they do."""
        for pool in self._pools.values():
            for process in list((pool._processes or {}).values()):
                process.terminate()
        self.fresh()


@contextmanager
def crew() -> Iterator[Crew]:
    """A crew whose processes are gone afterwards, also after an interruption."""
    members = Crew()
    try:
        yield members
    except BaseException:
        members.stop()
        raise
    finally:
        members.fresh()


def gather(spec: RunSpec, *, members: Crew, say: Say, variant: str, fresh_repeat: bool = False) -> Evidence:
    """Trace both subjects, repeat them, replay modern on legacy's inputs, and compare everything.

    Traces are kept under .cache/traces by a digest of all that shapes them, so an interrupted or repeated run goes on
    from there; the repeats never come from the cache. The repeat is each side's own loop without taps; a second traced
    run is made where that shows a difference, and, in a fresh process, if `fresh_repeat`.
    """
    with say(f"{variant}: training steps of both subjects"):
        folders = traced(spec, members)
    if fresh_repeat:
        members.fresh()
    extra = {name: CACHE / "replays" / f"{folder.name}" for name, folder in folders.items()}
    reference = folders["legacy"]
    with say(f"{variant}: once more without taps, and modern's stages on legacy's inputs"):
        replays = [members.submit(name, worker.replays_to, spec, name, reference, extra[name]) for name in SUBJECTS]
        isolated = members.submit("modern", worker.isolated, spec, "modern", reference)
        golden = members.submit("legacy", against_golden, spec, variant, folders)
        bare = {name: members.submit(name, worker.observe, spec, name, folders[name]) for name in SUBJECTS}
        _wait([*replays, isolated, golden, *bare.values()])
        observed = {name: job.result() for name, job in bare.items()}
    again = [name for name in SUBJECTS if fresh_repeat or not observed[name].same]
    repeats = _repeat(spec, again, folders, members=members, say=say, variant=variant)
    with say(f"{variant}: comparing"):
        traces = {name: load_trace(folder) for name, folder in folders.items()}
        drifts = {"chained": compare_traces(traces["legacy"], traces["modern"])}
        drifts["isolated"] = isolated.result() | compare_traces(*(load_trace(extra[name]) for name in SUBJECTS))
        for name in SUBJECTS:
            drifts[f"repeat:{name}"] = repeats.get(name) or dict(observed[name].returned)
        drifts |= golden.result().drifts
    for folder in extra.values():
        shutil.rmtree(folder, ignore_errors=True)
    prune(CACHE / "traces", KEPT_TRACES, keep=folders.values())
    return Evidence(
        spec=spec,
        variant=variant,
        reference=reference,
        legacy=traces["legacy"],
        modern=traces["modern"],
        drifts=drifts,
        structure=[
            *compare_structure(traces["legacy"], traces["modern"], spec.pipeline),
            *(finding for name in SUBJECTS for finding in _observed(name, observed[name], repeats)),
        ],
        golden=golden.result(),
    )


def traced(spec: RunSpec, members: Crew, names: Sequence[str] = SUBJECTS) -> dict[str, Path]:
    """Where the stored traces of `names` are; those that are missing are made, each in its own process."""
    folders = {name: trace_place(spec, name) for name in names}
    missing = {name: folder for name, folder in folders.items() if not is_stored(folder)}
    _wait([members.submit(name, worker.trace_to, spec, name, folder) for name, folder in missing.items()])
    return folders


def trace_place(spec: RunSpec, name: str) -> Path:
    """Where the trace of a subject is kept, whether or not it was made yet."""
    return CACHE / "traces" / trace_key(spec, name)


def _repeat(
    spec: RunSpec, names: Sequence[str], folders: dict[str, Path], *, members: Crew, say: Say, variant: str
) -> dict[str, dict[str, Drift]]:
    """Trace `names` a second time and compare with the first."""
    if not names:
        return {}
    places = {name: CACHE / "repeats" / folders[name].name for name in names}
    with say(f"{variant}: {' and '.join(names)} traced a second time"):
        _wait([members.submit(name, worker.trace_to, spec, name, places[name]) for name in names])
        drifts = {name: compare_traces(load_trace(folders[name]), load_trace(places[name])) for name in names}
    for place in places.values():
        shutil.rmtree(place, ignore_errors=True)
    return drifts


def _observed(
    name: str, observation: observer.Observation, repeats: dict[str, dict[str, Drift]]
) -> list[StructuralFinding]:
    again = repeats.get(name)
    agree = None if again is None else all(drift.bitwise for drift in again.values())
    return observer.findings(name, observation, repeats=agree)


def add_floors(evidence: Evidence, *, members: Crew, say: Say, everything: bool = False) -> None:
    """Attach the noise floors that the verdicts need: stored ones, or measured now and kept.

    Floors are needed only for what is not bitwise; `everything` measures them all (for `python -m parity floor`).
    """
    needed = {
        mode: {floor_name(mode, key) for key in _unequal(evidence.drifts[mode])} for mode in ("chained", "isolated")
    }
    for drifts in evidence.golden.drifts.values():
        needed["chained"] |= _unequal(drifts)
    if not everything and not any(needed.values()):
        return
    if not everything and _use_stored_floors(evidence, needed):
        return
    spec = evidence.spec
    facts = floor_facts(spec)
    with say(f"{evidence.variant}: noise floor, {measured_by(facts)} on legacy (kept for the next run)"):
        evidence.floors = measure(spec, evidence.reference, needed, members, everything)
    kept_here = everything and not spec.legacy_root  # the repository keeps floors of the reconstruction only
    path = committed_floors(spec, evidence.variant) if kept_here else _cached_floors(spec)
    write_floors(path, evidence.floors, facts)
    evidence.floor_source = f"measured in this run, {measured_by(facts)}"
    evidence.floor_tree = _CHECKOUT if spec.legacy_root else _RECONSTRUCTION


_RECONSTRUCTION, _CHECKOUT = "the reconstruction", "the checkout"


def _use_stored_floors(evidence: Evidence, needed: dict[str, set[str]]) -> bool:
    """Attach stored floors if there are any that cover `needed`: for a checkout its own, else the reconstruction's."""
    spec = evidence.spec
    ours = replace(spec, legacy_root="")
    places = [(_cached_floors(spec), spec, _CHECKOUT)] if spec.legacy_root else []
    places += [
        (path, ours, _RECONSTRUCTION) for path in (committed_floors(ours, evidence.variant), _cached_floors(ours))
    ]
    for path, owner, tree in places:
        if path.exists():
            floors, facts = read_floors(path)
            fits = facts.get("key") == floor_key(owner)
            if fits and all(needed[mode] <= floors.get(mode, {}).keys() for mode in needed):
                evidence.floors, evidence.floor_tree = floors, tree
                evidence.floor_source = f"{path.relative_to(ROOT)}, {measured_by(facts)}"
                if spec.legacy_root:
                    evidence.floor_source += f", measured on {tree}"
                return True
    return False


def _cached_floors(spec: RunSpec) -> Path:
    return CACHE / "floors" / f"{floor_key(spec)}.json"


def measure(
    spec: RunSpec, reference: Path, needed: dict[str, set[str]], members: Crew, everything: bool
) -> dict[str, Floors]:
    """Noise floors by mode, measured on legacy's trace at `reference`: those of `needed` keys by mode, or all."""
    halves = (range(0, DRAWS, 2), range(1, DRAWS, 2))  # both processes measure legacy
    pipeline, asked = PIPELINES[spec.pipeline], {key.split("/")[0] for key in needed["isolated"]}
    replayed = [stage for stage in pipeline.stages if stage.inputs or stage.gradients]
    stages = [stage.name for stage in replayed if everything or stage.name in asked]
    isolated, chained = Floors(), Floors()
    jobs = [
        members.submit(name, worker.measure_isolated, spec, reference, stage, half)
        for stage in stages
        for name, half in zip(SUBJECTS, halves, strict=True)
    ]
    _join(isolated, jobs)
    behind = {key for key in needed["chained"] if worker.behind_update(pipeline, key)}
    whole_runs = behind or (everything and (spec.steps > 1 or any(stage.after_update for stage in replayed)))
    tasks = [worker.measure_chained] if everything or needed["chained"] - behind else []
    tasks += [worker.measure_runs] if whole_runs else []
    jobs = [
        members.submit(name, task, spec, reference, half)
        for task in tasks
        for name, half in zip(SUBJECTS, halves, strict=True)
    ]
    _join(chained, jobs)
    members.fresh()  # its memory is for the fresh processes
    alone = [stage for stage in stages if pipeline.by_name[stage].isolated]
    for cause in covered(spec.device):
        found = under(cause, worker.measure_cause, spec, reference, cause, alone, bool(tasks))
        _cover(isolated, found["isolated"])
        _cover(chained, found["chained"])
    return {"isolated": isolated, "chained": chained}


def _join(floors: Floors, jobs: list[Future[Floors]]) -> None:
    """Let `floors` cover what each job found."""
    for job in jobs:
        _cover(floors, job.result())


def _cover(floors: Floors, more: Floors) -> None:
    for name, floor in more.items():
        floors[name] = floors[name].joined(floor) if name in floors else floor


def floor_name(mode: str, key: str) -> str:
    """The floor that judges `key`: repeated isolated updates (`adam/...@5`) are held against that of one update."""
    return key.partition("@")[0] if mode == "isolated" else key


def compare_traces(reference: Trace, candidate: Trace) -> dict[str, Drift]:
    """Figures for every tensor that both traces hold; what only one holds is a structural finding, not a number."""
    return {
        key: compare_named(key, reference.tensors, candidate.tensors)
        for key in reference.tensors
        if key in candidate.tensors
    }


def trace_key(spec: RunSpec, subject: str) -> str:
    """Digest of all that shapes a trace: sources, inputs, settings, platform."""
    shared = ("parity.trace", "parity.environment", "parity.weights")
    sources = closure([worker.subject_module(subject, spec.pipeline), *shared]) | {Path(worker.__file__)}
    own = _legacy_marks(spec) if subject == "legacy" else ()
    return _digest(subject, *own, tree_digest(sorted(sources)), *_inputs(spec))


def floor_facts(spec: RunSpec) -> dict[str, Any]:
    """What floors are stored with: the digest that makes them valid, draws, harmless processes, platform, settings."""
    return {
        "key": floor_key(spec),
        "draws": DRAWS,
        "causes": [cause.name for cause in covered(spec.device)],
        "platform": platform_key(spec.device),
        "run": _settings(spec),
    }


def measured_by(facts: Mapping[str, Any]) -> str:
    """How a floor came about, in a few words."""
    causes = facts.get("causes", ())
    return f"{facts['draws']} draws" + (f" and {len(causes)} harmless processes" if causes else "")


def floor_key(spec: RunSpec) -> str:
    """Digest of what a floor was measured on; modern has no part in it."""
    return _digest(*_legacy_marks(spec), *_inputs(spec), str(DRAWS), *map(repr, covered(spec.device)))


def _legacy_marks(spec: RunSpec) -> tuple[str, ...]:
    """The content of the legacy tree; a checkout's never passes for the reconstruction's."""
    return (*(("checkout",) if spec.legacy_root else ()), legacy_digest(spec))


def legacy_digest(spec: RunSpec) -> str:
    """Content of the legacy tree that a run audits, the reconstruction's or a checkout's."""
    return content_digest(Path(spec.legacy_root)) if spec.legacy_root else tree_digest([legacy_tree(spec)])


def legacy_tree(spec: RunSpec) -> Path:
    """The folder of the reconstructed fork that a run audits."""
    return ROOT / "legacy" / PIPELINES[spec.pipeline].tree


def committed_floors(spec: RunSpec, variant: str) -> Path:
    """Where the floors of a bundled batch are kept in the repository."""
    name = re.sub(r"[^A-Za-z0-9_.]+", "_", f"{spec.batch}-{variant}-{spec.steps}") + ".json"
    return ROOT / "fixtures" / "floors" / platform_key(spec.device) / name


def _inputs(spec: RunSpec) -> tuple[str, ...]:
    """What a run is given, by content: where a checkout or a batch lies on disk says nothing about its result."""
    head = hashlib.sha256(Path(spec.head).read_bytes()).hexdigest()
    return (json.dumps(_settings(spec), sort_keys=True), head, load_batch(spec.batch).digest, platform_key(spec.device))


def _settings(spec: RunSpec) -> dict[str, Any]:
    return {name: value for name, value in asdict(spec).items() if name not in ("head", "batch", "legacy_root")}


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _unequal(drifts: dict[str, Drift]) -> set[str]:
    return {key for key, drift in drifts.items() if not drift.bitwise and not drift.structural}


def _wait(jobs: list[Future[Any]]) -> None:
    for job in jobs:
        job.result()
