"""From drifts to rows of the one table that terminal, JSON, CSV and report read: figures, floor, verdict, reason."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import pandas as pd

from parity.audit import Evidence, floor_name
from parity.comparison import Drift
from parity.departures import DEPARTURES
from parity.noise import C, Floor
from parity.pipelines import PIPELINES
from parity.schema import Row
from parity.verdict import Verdict, judge, worst

CLAIMS = ("isolated", "chained")


def make_rows(evidence: Evidence) -> list[Row]:
    """All rows of one variant in pipeline order, isolated before chained within a stage."""
    rows = [
        _row(evidence, mode, key, drift) for mode, drifts in evidence.drifts.items() for key, drift in drifts.items()
    ]
    modes = [*CLAIMS, *sorted({row.mode for row in rows} - set(CLAIMS))]
    names = PIPELINES[evidence.spec.pipeline].names
    rows.sort(key=lambda row: (names.index(row.stage), row.step, modes.index(row.mode)))
    return with_causes(rows)


def floor_key_of(row: Row) -> str:
    """The name under which the floors of a row's mode hold the one that judges it."""
    return floor_name(row.mode, f"{row.stage}/{row.tensor}")


def table(rows: Iterable[Row]) -> pd.DataFrame:
    """The rows as a table, one figure per column, indexed by row id."""
    frame = pd.DataFrame([asdict(row) for row in rows])
    return frame.set_index("id").drop(columns=["histogram", "slices"]) if len(frame) else frame


def first_divergence(rows: Sequence[Row]) -> Row | None:
    """The culprit of the first variant that drifts.

    That is the first isolated drift in pipeline order; unless modern's own run drifts at an earlier stage into which
    nothing but equal bytes came: then the difference is born there, on a road that the replay does not take. Without an
    isolated drift it is the first chained one, else the first of any mode.
    """
    for variant in dict.fromkeys(row.variant for row in rows):
        if culprit := _culprit([row for row in rows if row.variant == variant]):
            return culprit
    return None


def born_there(row: Row, rows: Iterable[Row]) -> bool:
    """Whether a drift cannot have come in: seen on recorded inputs, or all stages before it are the same bytes."""
    if row.mode != "chained":
        return row.mode == "isolated"
    names = PIPELINES[row.pipeline].names
    before = [
        other
        for other in rows
        if (other.variant, other.mode, other.step) == (row.variant, "chained", row.step)
        and names.index(other.stage) < names.index(row.stage)
        and not _read_after_update(other)
    ]
    return all(other.bitwise for other in before)


def _culprit(rows: Sequence[Row]) -> Row | None:
    drifting = sorted(
        (row for row in rows if row.verdict is Verdict.DRIFT), key=lambda row: (row.step, _read_after_update(row))
    )
    isolated, chained = (next((row for row in drifting if row.mode == mode), None) for mode in CLAIMS)
    if isolated and chained and _earlier(chained, isolated) and born_there(chained, rows):
        return chained
    return isolated or chained or (drifting[0] if drifting else None)


def _earlier(row: Row, other: Row) -> bool:
    names = PIPELINES[row.pipeline].names
    return row.step == 0 and not _read_after_update(row) and names.index(row.stage) < names.index(other.stage)


def _row(evidence: Evidence, mode: str, key: str, drift: Drift) -> Row:
    name, _, suffix = key.partition("@")
    stage, _, tensor = name.partition("/")
    floor = evidence.floors.get("isolated" if mode == "isolated" else "chained", {}).get(floor_name(mode, key))
    verdict, reason = judge(drift, floor) if not mode.startswith("repeat") else _repeat(drift)
    return Row(
        id=f"{mode}/{evidence.variant}/{key}",
        pipeline=evidence.spec.pipeline,
        stage=stage,
        tensor=f"{tensor}@{suffix}" if suffix else tensor,
        mode=mode,  # type: ignore[arg-type]
        variant=evidence.variant,
        step=int(suffix or 0),
        verdict=verdict,
        reason=reason,
        unit=PIPELINES[evidence.spec.pipeline].by_name[stage].unit,
        repeat=_command(evidence, mode, stage),
        **figures_of(drift),
        **allowance(floor, C),
    )


def figures_of(drift: Drift) -> dict[str, Any]:
    """The fields of a row that hold the figures of its drift."""
    return {
        "shape": list(drift.shape),
        "worst_index": None if drift.worst_index is None else list(drift.worst_index),
        "histogram": drift.histogram,
        "slices": [asdict(part) for part in drift.slices],
        **{name: getattr(drift, name) for name in _FIGURES},
    }


def drift_of(row: Row) -> Drift:
    """The figures of a row as they were measured."""
    shared = {item.name for item in fields(Drift)} & {item.name for item in fields(Row)}
    figures = {name: getattr(row, name) for name in shared - {"slices"}}
    index = None if row.worst_index is None else tuple(row.worst_index)
    return Drift(**{**figures, "shape": tuple(row.shape), "worst_index": index})


def floor_of(row: Row) -> Floor | None:
    """The floor that a row was held against; None if there was none."""
    if row.floor is None or row.floor_max_abs is None or row.floor_differing is None:
        return None
    return Floor(row.floor, row.floor_max_abs, row.floor_differing, row.floor_margin)


def allowance(floor: Floor | None, c: float) -> dict[str, Any]:
    """The fields of a row that say what its drift is held against: the noise floor, and c times it."""
    if floor is None:
        return dict.fromkeys(("floor", "bound", "floor_max_abs", "floor_differing", "floor_margin"))
    return {
        "floor": floor.rel_l2,
        "bound": c * floor.rel_l2,
        "floor_max_abs": floor.max_abs,
        "floor_differing": floor.differing,
        "floor_margin": floor.margin,
    }


def stage_words(rows: Iterable[Row], pipeline: str, stage: str) -> tuple[Verdict | None, Verdict | None]:
    """The worst verdict of a stage, isolated and chained; None for what was not run."""
    own = [row for row in rows if (row.pipeline, row.stage) == (pipeline, stage)]
    isolated, chained = ([row.verdict for row in own if row.mode == mode] for mode in CLAIMS)
    return (worst(isolated) if isolated else None), (worst(chained) if chained else None)


def _read_after_update(row: Row) -> bool:
    """What a run reads after its update can be no cause of what the step computed before."""
    return row.mode != "isolated" and PIPELINES[row.pipeline].by_name[row.stage].after_update


_FIGURES = (
    *("dtype", "bitwise", "count", "differing", "max_abs", "mean_signed", "max_ulp", "scaled_ulp", "rel_l2", "cosine"),
    *("structural", "layout", "rel_scaled", "margin"),
    *("worst_reference", "worst_candidate"),
)


def _repeat(drift: Drift) -> tuple[Verdict, str]:
    if drift.bitwise:
        return Verdict.IDENTICAL, "same bytes when run again"
    return Verdict.UNSTABLE, drift.structural or f"{drift.differing} of {drift.count} elements differ when run again"


def _command(evidence: Evidence, mode: str, stage: str) -> str:
    item = f"parity/test_stages.py::test_stage[{evidence.variant}-{mode}-{stage}]"
    spec = evidence.spec
    if spec.legacy_root:
        run = ["python", "-m", "parity", "run", "--legacy-root", spec.legacy_root, "--pipeline", spec.pipeline]
        run += ["--stages", stage, "--batch", spec.batch, "--seed", str(spec.seed), "--steps", str(spec.steps)]
        return shlex.join([*run, "--device", spec.device])
    scope = f"--parity-batch={spec.batch} --parity-seed={spec.seed} --parity-device={spec.device}"
    scope += "" if spec.pipeline == "coarse" else f" --parity-pipeline={spec.pipeline}"
    return f'python -m pytest "{item}" {scope}' + (" --parity-full" if spec.steps > 1 else "")


def with_causes(rows: Sequence[Row]) -> list[Row]:
    """Say why a row is not bitwise: the stage computes it otherwise, or it inherits from an earlier stage."""
    own = {row.stage for row in rows if row.mode == "isolated" and not row.bitwise}
    return [_explained(row, own) for row in rows]


def _explained(row: Row, own: set[str]) -> Row:
    if row.verdict is not Verdict.ROUNDING or row.mode not in CLAIMS:
        return row
    if row.stage not in own:
        return _reworded(row, "inherited from earlier stages")
    return _reworded(row, DEPARTURES.get(row.pipeline, {}).get(row.stage, "cause not recorded"))


def _reworded(row: Row, why: str) -> Row:
    fields: Mapping[str, object] = {**row.__dict__, "reason": f"{row.reason}; {why}"}
    return Row(**fields)  # type: ignore[arg-type]
