"""Legacy under harmless changes that no floor covers, each in a fresh process, for `python -m parity calibrate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from parity import worker
from parity.audit import Say, committed_floors, trace_place
from parity.calibration import Calibration, calibrate
from parity.causes import HELD_OUT, Cause, under
from parity.comparison import Drift
from parity.environment import platform_key
from parity.files import ROOT
from parity.fresh import in_fresh_process
from parity.noise import DRAWS, read_floors
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
            in_fresh_process(worker.trace_to, spec, "legacy", reference)
    drifts: dict[str, dict[str, Drift]] = {}
    for cause in causes:
        with say(f"{variant}: legacy replayed, {cause.name}"):
            told = replace(spec, threads=cause.threads)
            drifts[cause.name] = under(cause, worker.isolated, told, "legacy", reference)
    fresh: list[dict[str, Drift]] = []
    if draws:
        with say(f"{variant}: {draws} fresh one-ULP draws"):
            numbers = range(_FIRST, _FIRST + draws)
            fresh = in_fresh_process(worker.fresh_draws, spec, reference, numbers)
    return calibrate(variant, drifts, floors, fresh)
