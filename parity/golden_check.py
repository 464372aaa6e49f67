"""Runs of today held against goldens, and goldens written anew; executed in a subject's process."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from parity.comparison import Drift
from parity.files import ROOT
from parity.golden import (
    GoldenError,
    GoldenMissing,
    GoldenStale,
    Provenance,
    golden_folder,
    golden_name,
    load_golden,
    provenance,
    write_golden,
)
from parity.pipelines import PIPELINES
from parity.subject import Plan
from parity.trace import load_trace
from parity.worker import RunSpec, batch_of, setup_of


@dataclass(frozen=True, kw_only=True)
class GoldenState:
    """What came of the goldens: compared, missing, stale or corrupt; drifts by mode and tensor when compared."""

    state: str
    path: str
    detail: str
    drifts: dict[str, dict[str, Drift]] = field(default_factory=dict)


def name_of(spec: RunSpec, variant: str) -> str:
    """Stem of the golden of a run: batch, variant, steps, and the seed where it is not the default."""
    return golden_name(batch_of(spec), f"{variant}-{spec.steps}" + (f"-seed{spec.seed}" if spec.seed else ""))


def against_golden(spec: RunSpec, variant: str, traces: dict[str, Path]) -> GoldenState:
    """Compare each subject's stored trace with the golden of this run, if there is a usable one."""
    folder, name = golden_folder(device=spec.device), name_of(spec, variant)
    path = str((folder / f"{name}.json").relative_to(ROOT))
    if spec.legacy_root:
        return GoldenState(state="missing", path=path, detail=_of_another_tree(spec))
    try:
        golden = load_golden(name, _origin(spec), folder)
    except GoldenError as error:
        state = (
            "missing" if isinstance(error, GoldenMissing) else "stale" if isinstance(error, GoldenStale) else "corrupt"
        )
        return GoldenState(state=state, path=path, detail=str(error))
    drifts = {}
    for subject, place in traces.items():
        live = load_trace(place).tensors
        drifts[f"golden:{subject}"] = {key: golden.compare(key, live[key]) for key in golden.tensors if key in live}
    return GoldenState(
        state="compared", path=path, detail=f"recorded values of {len(golden.tensors)} tensors", drifts=drifts
    )


def record_golden(spec: RunSpec, variant: str, trace: Path) -> Path:
    """Write the golden of a run from legacy's stored trace; raises GoldenError where that must not be done."""
    if spec.legacy_root:
        raise GoldenError(f"goldens are written from the reconstruction only; {_of_another_tree(spec)}")
    return write_golden(load_trace(trace), name_of(spec, variant), _origin(spec), golden_folder(device=spec.device))


def _of_another_tree(spec: RunSpec) -> str:
    return f"goldens are recordings of the reconstruction, {spec.legacy_root} is another tree: they say nothing of it"


def _origin(spec: RunSpec) -> Provenance:
    plan = Plan(steps=spec.steps, seed=spec.seed)
    return provenance(setup_of(spec), batch_of(spec), plan, PIPELINES[spec.pipeline].tree)
