"""What runs inside a subject's own process: build, trace, replay, measure the floor.

Every function takes plain picklable values and leaves large results on disk, so that two subjects can work at the same
time without sharing memory, generators or global settings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from modern.assets import load_head
from parity.batch import Batch, load_batch
from parity.comparison import Drift, compare
from parity.environment import fix_numerics
from parity.files import ROOT
from parity.noise import Floors, chained_floor, isolated_floor, widen
from parity.perturb import perturbed_batch
from parity.randomness import seed_everything
from parity.stages import BY_NAME, batch_tensors, stage_inputs
from parity.subject import Plan, Setup, Subject
from parity.trace import Trace, load_trace, save_trace
from parity.weights import seeded_weights

HEAD = ROOT / "fixtures" / "assets" / "head.npz"
ADAM_UPDATES = 5


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One run, as plain values. `weights_prefix` names the seeded weights."""

    batch: str
    dropout: float = 0.0
    steps: int = 1
    seed: int = 0
    device: str = "cpu"
    threads: int = 1
    weights_prefix: str = ""
    head: str = str(HEAD)
    overrides: tuple[tuple[str, Any], ...] = ()


@lru_cache(maxsize=1)
def batch_of(spec: RunSpec) -> Batch:
    """The batch of a run."""
    return load_batch(spec.batch)


@lru_cache(maxsize=1)
def setup_of(spec: RunSpec) -> Setup:
    """What both subjects of a run are built from."""
    return Setup(
        weights=seeded_weights(spec.weights_prefix),
        head=load_head(Path(spec.head)),
        overrides=dict(spec.overrides),
        dropout=spec.dropout,
        device=spec.device,
    )


@lru_cache(maxsize=2)
def _subject(name: str, spec: RunSpec) -> Subject:
    fix_numerics(threads=spec.threads, deterministic=True)
    setup = setup_of(spec)
    if name == "legacy":
        from parity.legacy_subject import build_legacy

        return build_legacy(setup)
    from parity.modern_subject import build_modern

    return build_modern(setup)


def trace_to(spec: RunSpec, name: str, folder: Path) -> Path:
    """Trace subject `name` once and store the trace in full at `folder`."""
    plan = Plan(steps=spec.steps, seed=spec.seed)
    save_trace(_subject(name, spec).trace(batch_of(spec), plan), folder)
    return folder


def recorded_world(spec: RunSpec, trace: Trace) -> dict[str, Tensor]:
    """All tensors a replay may read: the reference's trace and the batch."""
    return trace.tensors | batch_tensors(batch_of(spec))


def adam_inputs(spec: RunSpec, world: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inputs of the first update: initial weights, recorded gradients, empty moments."""
    prefix = "gradients/"
    gradients = {
        key.removeprefix(prefix): value for key, value in world.items() if key.startswith(prefix) and "@" not in key
    }
    weights = setup_of(spec).weights["BiViT"]
    inputs: dict[str, Tensor] = {"step": torch.tensor(0)}
    for key, gradient in gradients.items():
        inputs[f"parameter/{key}"] = weights[key].clone()
        inputs[f"gradient/{key}"] = gradient
        inputs[f"exp_avg/{key}"] = torch.zeros_like(gradient)
        inputs[f"exp_avg_sq/{key}"] = torch.zeros_like(gradient)
    return inputs


def replay(spec: RunSpec, name: str, stage: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Replay one stage from CPU tensors to CPU tensors; generators are seeded first where the stage draws."""
    subject = _subject(name, spec)
    if stage in BY_NAME and BY_NAME[stage].draws:
        seed_everything(spec.seed)
    moved = {key: value.to(spec.device) for key, value in inputs.items()}
    return {key: value.detach().cpu() for key, value in subject.replay(stage, moved).items()}


def replays_to(spec: RunSpec, name: str, reference: Path, folder: Path) -> Path:
    """Replay what no trace holds: the prediction of the initial weights, and several updates with equal gradients.

    The updates all use the gradients that the reference recorded, so that only the optimizer can make a difference.
    """
    world = recorded_world(spec, load_trace(reference))
    trace = Trace(subject=name)
    trace.put("prediction", replay(spec, name, "prediction", stage_inputs(BY_NAME["prediction"], world)))
    inputs = adam_inputs(spec, world)
    gradients = {key: value for key, value in inputs.items() if key.startswith("gradient/")}
    for step in range(ADAM_UPDATES):
        inputs = replay(spec, name, "adam", inputs | gradients | {"step": torch.tensor(step)})
    trace.put("adam", inputs, step=ADAM_UPDATES)
    save_trace(trace, folder)
    return folder


def isolated(spec: RunSpec, name: str, reference: Path, stages: Iterable[str]) -> dict[str, Drift]:
    """Drift of each of `stages` replayed by `name` on the reference's recorded inputs, against its recorded outputs."""
    trace = load_trace(reference)
    world, drifts = recorded_world(spec, trace), {}
    for stage in stages:
        inputs = adam_inputs(spec, world) if stage == "adam" else stage_inputs(BY_NAME[stage], world)
        found = replay(spec, name, stage, inputs)
        for tensor, expected in trace.stage(stage).items():
            key = f"{stage}/{tensor}"
            drifts[key] = compare(expected, found[tensor]) if tensor in found else _absent(expected)
    return drifts


def _absent(expected: Tensor) -> Drift:
    return Drift(
        shape=tuple(expected.shape),
        dtype=str(expected.dtype).removeprefix("torch."),
        structural="not computed by this subject",
        bitwise=False,
        count=expected.numel(),
        differing=expected.numel(),
    )


def measure_isolated(spec: RunSpec, reference: Path, stage: str, draws: range) -> Floors:
    """The isolated noise floor of one stage, measured on legacy."""
    world = recorded_world(spec, load_trace(reference))
    inputs = adam_inputs(spec, world) if stage == "adam" else stage_inputs(BY_NAME[stage], world)
    return isolated_floor(partial(replay, spec, "legacy"), stage, inputs, draws)


def measure_chained(spec: RunSpec, reference: Path, draws: range) -> Floors:
    """The chained noise floor of all stages, measured on legacy."""
    world = recorded_world(spec, load_trace(reference))

    def adam(_: str, current: dict[str, Tensor]) -> dict[str, Tensor]:
        return replay(spec, "legacy", "adam", adam_inputs(spec, current))

    return chained_floor(partial(replay, spec, "legacy"), world, draws, adam)


def measure_steps(spec: RunSpec, reference: Path, draws: range) -> Floors:
    """The chained floor of the steps after the first: whole runs of legacy on a batch moved by one ULP."""
    expected, batch, floors = load_trace(reference).tensors, batch_of(spec), Floors()
    plan = Plan(steps=spec.steps, seed=spec.seed, term_gradients=False)
    for draw in draws:
        found = _subject("legacy", spec).trace(perturbed_batch(batch, draw), plan).tensors
        for key in expected.keys() & found.keys():
            if "@" in key:
                widen(floors, key, compare(expected[key], found[key]))
    return floors
