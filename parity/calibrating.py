"""Replays of legacy under harmless changes, each in a fresh process, for `python -m parity calibrate`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from parity import worker
from parity.audit import Say, committed_floors, trace_place
from parity.calibration import CAUSES, Calibration, Cause, calibrate
from parity.comparison import Drift
from parity.environment import platform_key
from parity.files import ROOT
from parity.noise import DRAWS, Floor, read_floors
from parity.pipelines import PIPELINES
from parity.trace import is_stored
from parity.worker import RunSpec

FRESH = 8  # draws that had no part in the stored floors
_FIRST = 1000 * DRAWS


def calibration_file() -> Path:
    """Where the evidence of this platform is kept."""
    return ROOT / "fixtures" / "floors" / platform_key() / "calibration.json"


def measure(spec: RunSpec, variant: str, say: Say, causes: Sequence[Cause] = CAUSES, draws: int = FRESH) -> Calibration:
    """Calibrate the stored isolated floors of one variant.

    Raises:
        FileNotFoundError: no floors are stored for it; `python -m parity floor` measures them.
    """
    path = committed_floors(spec, variant)
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no stored floors of {variant}; run python -m parity floor --batch {spec.batch}"
        )
    floors = read_floors(path)[0]["isolated"]
    reference = trace_place(spec, "legacy")
    if not is_stored(reference):
        with say(f"{variant}: reference run of legacy"):
            _fresh(Cause(name="reference"), worker.trace_to, spec, "legacy", reference)
    drifts: dict[str, dict[str, Drift]] = {}
    for cause in causes:
        with say(f"{variant}: legacy replayed, {cause.name}"):
            drifts[cause.name] = _fresh(cause, replayed, spec, reference)
    fresh: list[dict[str, Floor]] = []
    if draws:
        with say(f"{variant}: {draws} fresh one-ULP draws"):
            fresh = _fresh(Cause(name="ulp"), fresh_draws, spec, reference, draws)
    return calibrate(variant, drifts, floors, fresh)


def replayed(cause: Cause, spec: RunSpec, reference: Path) -> dict[str, Drift]:
    """In a process of its own: every isolated stage of legacy under a cause, against what legacy recorded."""
    torch.backends.mkldnn.set_flags(_enabled=cause.onednn)
    return worker.isolated(replace(spec, threads=cause.threads), "legacy", reference)


def fresh_draws(cause: Cause, spec: RunSpec, reference: Path, draws: int) -> list[dict[str, Floor]]:
    """In a process of its own: the figures of single one-ULP draws, one mapping per draw."""
    stages = [stage.name for stage in PIPELINES[spec.pipeline].stages if stage.isolated and stage.inputs]
    found = []
    for draw in range(_FIRST, _FIRST + draws):
        one: dict[str, Floor] = {}
        for stage in stages:
            one |= worker.measure_isolated(spec, reference, stage, range(draw, draw + 1))
        found.append(one)
    return found


def _fresh(cause: Cause, task: Callable[..., Any], *arguments: Any) -> Any:
    """Run `task` in a new process that has the cause's variables; tasks of this module are told of the cause."""
    told = (cause, *arguments) if task in (replayed, fresh_draws) else arguments
    variables = {"OMP_NUM_THREADS": str(cause.threads), "MKL_NUM_THREADS": str(cause.threads), **dict(cause.variables)}
    with mock.patch.dict(os.environ, variables), ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(task, *told).result()
