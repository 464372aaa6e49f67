"""Legacy under harmless changes that no floor covers, each in a fresh process, for `python -m parity calibrate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from parity import worker
from parity.audit import Say, committed_floors, trace_place
from parity.calibration import Calibration, calibrate
from parity.causes import HELD_OUT, Cause, in_fresh_process
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


def measure(
    spec: RunSpec, variant: str, say: Say, causes: Sequence[Cause] = HELD_OUT, draws: int = FRESH
) -> Calibration:
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
            in_fresh_process(Cause(name="reference"), worker.trace_to, spec, "legacy", reference)
    drifts: dict[str, dict[str, Drift]] = {}
    for cause in causes:
        with say(f"{variant}: legacy replayed, {cause.name}"):
            found = in_fresh_process(cause, worker.isolated, replace(spec, threads=cause.threads), "legacy", reference)
            drifts[cause.name] = found
    fresh: list[dict[str, Floor]] = []
    if draws:
        with say(f"{variant}: {draws} fresh one-ULP draws"):
            fresh = in_fresh_process(Cause(name="ulp"), fresh_draws, spec, reference, draws)
    return calibrate(variant, drifts, floors, fresh)


def fresh_draws(spec: RunSpec, reference: Path, draws: int) -> list[dict[str, Floor]]:
    """In a process of its own: the figures of single one-ULP draws, one mapping per draw."""
    stages = [stage.name for stage in PIPELINES[spec.pipeline].stages if stage.isolated and stage.inputs]
    found = []
    for draw in range(_FIRST, _FIRST + draws):
        one: dict[str, Floor] = {}
        for stage in stages:
            one |= worker.measure_isolated(spec, reference, stage, range(draw, draw + 1))
        found.append(one)
    return found
