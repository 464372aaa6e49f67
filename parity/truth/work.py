"""What runs in a process of its own: one paired input through all stages, in float32 by both sides and in float64.

Results go to one JSON file per input, written after each stage, so that an interrupted run goes on from there.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parity import worker
from parity.environment import fix_numerics
from parity.files import write_atomically
from parity.perturb import perturbed
from parity.stages import Stage, batch_tensors
from parity.subject import Subject
from parity.trace import load_trace
from parity.truth.double import Narrow, doubling, upcast
from parity.truth.errors import distance, grouped, same_bytes
from parity.truth.inputs import clip_of_input, mid_run, needed
from parity.worker import RunSpec

Tensors = dict[str, Tensor]


@dataclass(kw_only=True)
class Pair:
    """One quantity of one stage on one input: the distance of each side from truth.

    bitwise: both float32 results are the same bytes.
    truths: distance of the two truths (modern's code and legacy's code in float64); None where only one was computed.
    """

    legacy: float
    modern: float
    bitwise: bool
    truths: float | None


@dataclass(kw_only=True)
class StageResult:
    """All quantities of one stage on one input.

    narrow: operations of a truth run that gave float32 all the same. flips: pixels whose face differs between sides,
    left out of the distances. problem: why there are no pairs.
    """

    pairs: dict[str, Pair] = field(default_factory=dict)
    narrow: list[str] = field(default_factory=list)
    flips: int = 0
    problem: str = ""


def measure_input(spec: RunSpec, reference: Path, index: int, wanted: tuple[str, ...], check: bool, out: Path) -> Path:
    """Measure `wanted` stages on paired input `index` and keep the results in `out`; what it holds already stays.

    Args:
        spec: the run whose weights, head and batch are used.
        reference: legacy's stored trace of that run.
        index: which input; 0 is the recorded one.
        wanted: names of stages.
        check: also run legacy's code in float64 and take the distance of the two truths.
        out: a JSON file, stage -> StageResult.
    """
    done: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    left = tuple(name for name in wanted if name not in done or (check and not _checked(done[name])))
    pipeline = worker.pipeline_of(spec)
    world = load_trace(reference).tensors | clip_of_input(batch_tensors(worker.batch_of(spec)), index)
    with worker._economical(spec):  # the layout of texture space is one mesh for all stages and inputs
        for name in needed(pipeline, left):
            stage = pipeline.by_name[name]
            inputs = worker.inputs_of(spec, stage, world)
            if stage.gradients:
                inputs = mid_run(inputs, index)
            legacy = worker.replay(spec, "legacy", name, inputs)
            world |= {f"{name}/{key}": value for key, value in legacy.items()}
            if name in left:
                done[name] = asdict(measure_stage(spec, stage, inputs, legacy, check))
                write_atomically(out, json.dumps(done, indent=1).encode())
            gc.collect()  # graphs are held by cycles through the frames of the code that built them
    return out


def measure_stage(spec: RunSpec, stage: Stage, inputs: Tensors, legacy: Tensors, check: bool) -> StageResult:
    """Both distances of every quantity of one stage, given legacy's result on `inputs`."""
    result = StageResult()
    try:
        modern = worker.replay(spec, "modern", stage.name, inputs)
        truth, narrow = replay64(spec, "modern", stage.name, inputs, legacy.get("face_ids"))
        other, more = replay64(spec, "legacy", stage.name, inputs, legacy.get("face_ids")) if check else (None, [])
        result.narrow = sorted({*narrow, *more})
        sides = {"legacy": legacy, "modern": modern, "truth": truth} | ({"other": other} if other else {})
        result.flips = leave_out_flips(sides)
        if absent := sorted(legacy.keys() - modern.keys()):
            raise ValueError(f"modern does not compute {', '.join(absent[:3])}")
        floats = [key for key, value in legacy.items() if value.is_floating_point()]
        for name, keys in grouped(worker.pipeline_of(spec), stage.name, floats).items():
            result.pairs[name] = Pair(
                legacy=distance(truth, legacy, keys),
                modern=distance(truth, modern, keys),
                bitwise=same_bytes(legacy, modern, keys),
                truths=distance(truth, other, keys) if other else None,
            )
    except Exception as error:  # one stage that cannot be computed must not hide the others
        result.pairs, result.problem = {}, f"{type(error).__name__}: {error}"
    return result


def replay64(
    spec: RunSpec, name: str, stage: str, inputs: Mapping[str, Tensor], face_ids: Tensor | None
) -> tuple[Tensors, list[str]]:
    """One stage by a side's code in float64, and the operations that gave float32 all the same.

    Args:
        spec: the run.
        name: legacy or modern.
        stage: its name.
        inputs: as for a float32 replay; floats are made float64 without changing their values.
        face_ids: [H,W] or [B,H,W], the faces of a stage that searches for them.
    """
    subject = _subject64(name, spec)
    wide = {key: value.double() if value.dtype == torch.float32 else value.clone() for key, value in inputs.items()}
    ids = face_ids if face_ids is None or face_ids.dim() == 3 else face_ids[None]
    # With the mesh among the inputs, its recorded raster is an input too; otherwise it belongs to a mesh made inside.
    with doubling(ids, given="projected" in inputs), Narrow() as narrow:
        found = subject.replay(stage, wide)
    return {key: value.detach().cpu() for key, value in found.items()}, sorted(narrow.found)


def stage_floor(spec: RunSpec, reference: Path, stage: str, draws: range) -> dict[str, float]:
    """Largest distance of legacy from itself under one-ULP changes of the recorded inputs, per quantity."""
    pipeline = worker.pipeline_of(spec)
    inputs = worker.inputs_of(spec, pipeline.by_name[stage], worker.recorded_world(spec, load_trace(reference)))
    base, floor = worker.replay(spec, "legacy", stage, inputs), dict[str, float]()
    groups = grouped(pipeline, stage, [key for key, value in base.items() if value.is_floating_point()])
    for draw in draws:
        moved = worker.replay(spec, "legacy", stage, perturbed(inputs, draw))
        for name, keys in groups.items():
            floor[name] = max(floor.get(name, 0.0), distance(base, moved, keys))
    return floor


def leave_out_flips(sides: dict[str, Tensors]) -> int:
    """Zero the coordinates of pixels for which a side chose another face than legacy; returns how many there are."""
    if "face_ids" not in sides["legacy"]:
        return 0
    ids = sides["legacy"]["face_ids"]
    flipped = torch.stack([side["face_ids"] != ids for side in sides.values()]).any(dim=0)
    for side in sides.values():
        side["barycentric"] = torch.where(flipped[..., None], 0.0, side["barycentric"]).to(side["barycentric"].dtype)
    return int(flipped.sum())


@lru_cache(maxsize=2)
def _subject64(name: str, spec: RunSpec) -> Subject:
    """A side built while everything is float64, so that constants it computes are too; weights keep their values."""
    fix_numerics(threads=spec.threads, deterministic=True)
    setup = worker.setup_of(spec)
    setup = deepcopy(setup, {id(setup.weights): setup.weights})  # gigabytes, which networks copy from and do not keep
    upcast(setup, leave=setup.weights)
    module = vars(import_module(worker.subject_module(name, spec.pipeline)))
    build = next(function for key, function in module.items() if key.startswith(f"build_{name}"))
    with doubling():
        built: Subject = build(setup)
    upcast(built, leave=setup.weights)
    return built


def _checked(result: dict[str, Any]) -> bool:
    return bool(result["problem"]) or all(pair["truths"] is not None for pair in result["pairs"].values())
