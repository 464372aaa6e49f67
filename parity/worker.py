"""What runs inside a subject's own process: build, trace, replay, measure the floor.

Every function takes plain picklable values and leaves large results on disk, so that two subjects can work at the same
time without sharing memory, generators or global settings.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from importlib import import_module
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from fixtures import seeded
from modern.assets import load_head
from parity.aftermath import changed, marks, state_digests
from parity.batch import FRAMES, Batch, load_batch
from parity.causes import Cause
from parity.checkout import blamed
from parity.comparison import Drift, compare, mismatched
from parity.discrete import compare_named, compare_stage
from parity.draws import drawn, record_draws
from parity.environment import fix_numerics
from parity.files import ROOT
from parity.noise import Floors, chained_floor, isolated_drifts, isolated_floor, widen
from parity.observer import Observation
from parity.perturb import perturbed_batch
from parity.pipelines import PIPELINES
from parity.randomness import seed_everything
from parity.stages import Pipeline, Stage, batch_tensors, stage_inputs
from parity.subject import DetailSetup, Observable, Plan, Setup
from parity.trace import Trace, load_trace, save_trace
from parity.updates import UPDATES, repeated_update, update_inputs
from parity.weights import audited_detail_weights, seeded_weights

ABSENT = "not computed by this subject"
HEAD = ROOT / "fixtures" / "assets" / "head.npz"


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One run, as plain values.

    weights_prefix: names the seeded weights. legacy_root: the lab's own checkout, if legacy is not the reconstruction.
    """

    batch: str
    pipeline: str = "coarse"
    dropout: float = 0.0
    steps: int = 1
    seed: int = 0
    device: str = "cpu"
    threads: int = 1
    weights_prefix: str = ""
    head: str = str(HEAD)
    overrides: tuple[tuple[str, Any], ...] = ()
    legacy_root: str = ""


@lru_cache(maxsize=1)
def batch_of(spec: RunSpec) -> Batch:
    """The batch of a run."""
    return load_batch(spec.batch)


def pipeline_of(spec: RunSpec) -> Pipeline:
    """The stages of a run."""
    return PIPELINES[spec.pipeline]


@lru_cache(maxsize=2)
def setup_of(spec: RunSpec) -> Setup | DetailSetup:
    """What both subjects of a run are built from."""
    head, overrides = load_head(Path(spec.head)), dict(spec.overrides)
    if spec.pipeline == "coarse":
        weights = seeded_weights(spec.weights_prefix)
        return Setup(
            weights=weights,
            head=head,
            overrides=overrides,
            dropout=spec.dropout,
            device=spec.device,
            legacy_root=spec.legacy_root,
        )
    return DetailSetup(
        weights=audited_detail_weights(spec.weights_prefix),
        head=head,
        expression_B50=seeded.uniform("exp", (FRAMES, 50), -0.6, 0.6, prefix=spec.weights_prefix),
        overrides=overrides,
        device=spec.device,
        legacy_root=spec.legacy_root,
    )


@lru_cache(maxsize=2)
def _subject(name: str, spec: RunSpec) -> Observable:
    fix_numerics(threads=spec.threads, deterministic=True)
    _before.clear()
    _before.update(marks())
    build = getattr(import_module(subject_module(name, spec.pipeline)), f"build_{name}{_SUFFIX[spec.pipeline]}")
    built: Observable = build(setup_of(spec))
    _before.update({place: mark for place, mark in marks(built.touched()).items() if place not in _before})
    return built


# Marks from before the subject of this process was built; those of the subject itself from right after.
_before: dict[str, object] = {}


def _leftovers(subject: Observable) -> list[str]:
    """Places that are hooked, patched or switched otherwise than before this process did anything."""
    return changed(_before, marks(subject.touched()))


def subject_module(name: str, pipeline: str) -> str:
    """The module that builds subject `name` of a pipeline."""
    return f"parity.{name}_{_MODULES[pipeline]}"


# Imported by name and on use: legacy changes global settings on import, and neither subject needs the other.
_MODULES = {"coarse": "subject", "detail": "detail_subject"}
_SUFFIX = {"coarse": "", "detail": "_detail"}


def trace_to(spec: RunSpec, name: str, folder: Path) -> Path:
    """Trace subject `name` once and store the trace in full at `folder`.

    Raises:
        CheckoutError: legacy is a lab's own checkout whose code cannot be built or run; the message has the place.
    """
    with blamed(spec.legacy_root if name == "legacy" else ""):
        plan, subject = Plan(steps=spec.steps, seed=spec.seed), _subject(name, spec)
        start = perf_counter()
        trace = subject.trace(batch_of(spec), plan)
    seconds, unit = perf_counter() - start, 1 if sys.platform == "darwin" else 1024  # ru_maxrss is bytes on macOS
    trace.resources = {"seconds": seconds, "peak_gb": getrusage(RUSAGE_SELF).ru_maxrss * unit / 2**30}
    trace.leftovers = _leftovers(subject)
    save_trace(trace, folder)
    return folder


def observe(spec: RunSpec, name: str, folder: Path) -> Observation:
    """Run subject `name` bare and hold what it gives out and leaves against its trace at `folder`.

    What is still hooked or patched is looked for after the traced run and again here, after all that this process did.
    """
    traced, subject, returned = load_trace(folder), _subject(name, spec), dict[str, Drift]()
    with subject.bare() as loop:
        seed_everything(spec.seed)
        for step in range(spec.steps):
            found = loop.step(batch_of(spec), step)
            if step in (0, spec.steps - 1):  # gradients and optimizer states of other steps are not recorded
                found |= loop.updated()
            suffix = f"@{step}" if step else ""
            for key, value in found.items():
                if (recorded := traced.tensors.get(f"{key}{suffix}")) is not None:
                    returned[f"{key}{suffix}"] = compare(recorded, value.detach().cpu())
        bare = state_digests(loop.networks, loop.optimizers)
    leftovers = {"the traced run": traced.leftovers, "replays and bare run": _leftovers(subject)}
    return Observation(traced=traced.aftermath, bare=bare, returned=returned, leftovers=leftovers)


def recorded_world(spec: RunSpec, trace: Trace) -> dict[str, Tensor]:
    """All tensors a replay may read: the reference's trace and the batch."""
    return trace.tensors | batch_tensors(batch_of(spec))


def inputs_of(spec: RunSpec, stage: Stage, world: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The arguments of a replay of `stage`, recorded or, for an update, assembled."""
    if stage.gradients:
        return update_inputs(pipeline_of(spec), stage, setup_of(spec).weights, world)
    return stage_inputs(stage, world)


def replay(spec: RunSpec, name: str, stage: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Replay one stage from CPU tensors to CPU tensors; generators are seeded first where the stage draws."""
    subject, contract = _subject(name, spec), pipeline_of(spec).by_name
    if stage in contract and contract[stage].draws:
        seed_everything(spec.seed)
    moved = {key: value.to(spec.device) for key, value in inputs.items()}
    return {key: value.detach().cpu() for key, value in subject.replay(stage, moved).items()}


def replays_to(spec: RunSpec, name: str, reference: Path, folder: Path) -> Path:
    """Replay what no trace holds: predictions of the initial weights, and several updates with equal gradients.

    The updates all use the gradients that the reference recorded, so that only the optimizer can make a difference.
    """
    world, trace = recorded_world(spec, load_trace(reference)), Trace(subject=name)
    for stage in pipeline_of(spec).stages:
        replay_further(spec, name, stage, world, trace)
    save_trace(trace, folder)
    return folder


def replay_further(spec: RunSpec, name: str, stage: Stage, world: Mapping[str, Tensor], trace: Trace) -> None:
    """Add to `trace` what only a replay yields of one stage, if anything: see `replays_to`."""
    if stage.after_update and stage.inputs:
        trace.put(stage.name, replay(spec, name, stage.name, inputs_of(spec, stage, world)))
    if stage.gradients:
        inputs = inputs_of(spec, stage, world)
        trace.put(stage.name, repeated_update(stage.name, inputs, partial(replay, spec, name)), step=UPDATES)


def isolated(spec: RunSpec, name: str, reference: Path) -> dict[str, Drift]:
    """Drift of each stage replayed by `name` on the reference's recorded inputs, against its recorded outputs."""
    trace = load_trace(reference)
    drifts: dict[str, Drift] = {}
    for stage in pipeline_of(spec).stages:
        if stage.isolated:
            drifts |= isolated_stage(spec, name, stage, trace)
    return drifts


def isolated_stage(spec: RunSpec, name: str, stage: Stage, trace: Trace) -> dict[str, Drift]:
    """Drift of each output of one stage, and of what it must not do: other random draws, writing into its inputs."""
    world = recorded_world(spec, trace)
    inputs = inputs_of(spec, stage, world)
    versions = {key: value._version for key, value in inputs.items()}
    if stage.draws:
        seed_everything(spec.seed)
    with record_draws() as log:
        found = replay(spec, name, stage.name, inputs)
    recorded = trace.stage(stage.name)
    drifts = {
        key: compare_stage(stage.name, recorded, found, key) if key in found else mismatched(expected, ABSENT)
        for key, expected in recorded.items()
    }
    written = [key for key, value in inputs.items() if value._version != versions[key]]
    given = inputs_of(spec, stage, world) if written else {}
    for key in written:
        if not torch.equal(given[key], inputs[key]):
            drifts[f"input {key}"] = mismatched(given[key], "the stage changes its input")
    expected = drawn(draw for draw in trace.draws if draw["step"] == 0 and stage.draws)
    if (found_draws := drawn(log.draws)) != expected:
        words = f"{len(found_draws)} random draws, legacy's {len(expected)}, or others"
        drifts["random draws"] = mismatched(torch.empty(0), words)
    return {f"{stage.name}/{key}": drift for key, drift in drifts.items()}


def measure_isolated(spec: RunSpec, reference: Path, stage: str, draws: range) -> Floors:
    """The isolated noise floor of one stage, measured on legacy."""
    world = recorded_world(spec, load_trace(reference))
    inputs = inputs_of(spec, pipeline_of(spec).by_name[stage], world)
    with _economical(spec):
        return isolated_floor(partial(replay, spec, "legacy"), stage, inputs, draws)


def fresh_draws(spec: RunSpec, reference: Path, draws: range) -> list[dict[str, Drift]]:
    """Legacy's isolated stages under one-ULP draws: for each draw the figures of every output."""
    world, found = recorded_world(spec, load_trace(reference)), {draw: dict[str, Drift]() for draw in draws}
    with _economical(spec):
        for stage in pipeline_of(spec).stages:
            if stage.isolated and stage.inputs:
                inputs, legacy = inputs_of(spec, stage, world), partial(replay, spec, "legacy")
                for draw, key, drift in isolated_drifts(legacy, stage.name, inputs, draws):
                    found[draw][key] = drift
    return list(found.values())


def measure_chained(spec: RunSpec, reference: Path, draws: range) -> Floors:
    """The chained noise floor of all stages, measured on legacy."""
    world = recorded_world(spec, load_trace(reference))
    stages = [stage for stage in pipeline_of(spec).stages if stage.inputs or stage.gradients]
    with _economical(spec):
        return chained_floor(partial(replay, spec, "legacy"), stages, partial(inputs_of, spec), world, draws)


def _economical(spec: RunSpec) -> AbstractContextManager[None]:
    subject = _subject("legacy", spec)
    return subject.economical() if hasattr(subject, "economical") else nullcontext()


def measure_runs(spec: RunSpec, reference: Path, draws: range) -> Floors:
    """The chained floor of what lies behind an update: whole runs of legacy on a batch moved by one ULP."""
    expected, batch, floors = load_trace(reference).tensors, batch_of(spec), Floors()
    plan = Plan(steps=spec.steps, seed=spec.seed, term_gradients=False)
    for draw in draws:
        found = _subject("legacy", spec).trace(perturbed_batch(batch, draw), plan).tensors
        for key in expected.keys() & found.keys():
            if behind_update(pipeline_of(spec), key):
                widen(floors, key, compare_named(key, expected, found))
    return floors


def measure_cause(
    spec: RunSpec, reference: Path, cause: Cause, stages: Sequence[str], whole: bool
) -> dict[str, Floors]:
    """Floors by mode of one harmless change, in whose process this is: legacy's `stages`, and with `whole` its run."""
    spec, trace = replace(spec, threads=cause.threads), load_trace(reference)
    isolated, chained = Floors(), Floors()
    for name in stages:
        for key, drift in isolated_stage(spec, "legacy", pipeline_of(spec).by_name[name], trace).items():
            widen(isolated, key, drift, cause.name)
    if whole:
        plan = Plan(steps=spec.steps, seed=spec.seed, digests=False)
        found = _subject("legacy", spec).trace(batch_of(spec), plan).tensors
        for key in trace.tensors.keys() & found.keys():
            widen(chained, key, compare_named(key, trace.tensors, found), cause.name)
    return {"isolated": isolated, "chained": chained}


def behind_update(pipeline: Pipeline, key: str) -> bool:
    """Whether a tensor depends on updated weights: it is of a later step, or read after the update."""
    return "@" in key or pipeline.by_name[key.split("/")[0]].after_update
