"""Each stage's error split into what is born there, what came in, and how far it was amplified; from stored figures.

For small errors the run's output error is E = e + K x, with e born here (isolated replay), x the error of the inputs
and K the condition of the stage; e and K x are unrelated, so their squares add.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from parity.located import StageError
from parity.pipelines import PIPELINES
from parity.schema import Row
from parity.stages import Stage

# Relative L2 of moving float32 values by -1, 0 or +1 ULP (parity/perturb.py): 2^-23 sqrt(2/3 E[1/m^2]) with the
# mantissa m log-uniform over [1, 2), so that E[1/m^2] = 3 / (8 ln 2).
ONE_ULP = 2.0**-23 * math.sqrt(2 / 3 * 3 / (8 * math.log(2)))
MEASURED, FROM_NOISE = "errors of this run", "one-ULP noise"


def split_errors(rows: Sequence[Row]) -> list[StageError]:
    """One entry for every stage of every variant that was compared, in the order of the rows."""
    first = [row for row in rows if row.step == 0 and row.mode in ("isolated", "chained")]
    keys = dict.fromkeys((row.pipeline, row.variant, row.stage) for row in first)
    return [_split(*key, [row for row in first if (row.pipeline, row.variant) == key[:2]]) for key in keys]


def _split(pipeline: str, variant: str, stage: str, rows: Sequence[Row]) -> StageError:
    own = [row for row in rows if row.stage == stage]
    chained, isolated = ({row.tensor: row for row in own if row.mode == mode} for mode in ("chained", "isolated"))
    tensor = max({**isolated, **chained}, key=lambda name: max(_error(chained, name) or 0, _error(isolated, name) or 0))
    total, injected = _error(chained, tensor), _error(isolated, tensor)
    inherited = _inherited(PIPELINES[pipeline].by_name[stage], rows)
    passed_on = None
    if total is not None and injected is not None:
        passed_on = math.sqrt(max(total**2 - injected**2, 0.0)) if math.isfinite(total) else total
    condition, source = None, ""
    floor = isolated[tensor].floor if tensor in isolated else None
    if passed_on and inherited and math.isfinite(passed_on) and math.isfinite(inherited):
        condition, source = passed_on / inherited, MEASURED
    elif floor:
        condition, source = floor / ONE_ULP, FROM_NOISE
    return StageError(
        pipeline=pipeline,
        stage=stage,
        variant=variant,
        tensor=tensor,
        injected=injected,
        inherited=inherited,
        passed_on=passed_on,
        condition=condition,
        condition_from=source,
        total=total,
        origin=_origin(injected, passed_on, total),
    )


def _inherited(stage: Stage, rows: Iterable[Row]) -> float | None:
    """Largest chained error among the tensors that the stage reads; the batch itself has none."""
    wanted = [f"{stage.gradients}/*"] if stage.gradients else [*stage.inputs.values()]
    if not wanted:
        return None
    errors = [
        _size(row)
        for row in rows
        if row.mode == "chained" and any(_matches(f"{row.stage}/{row.tensor}", key) for key in wanted)
    ]
    return max(errors, default=0.0)


def _matches(name: str, key: str) -> bool:
    return name.startswith(key[:-1]) if key.endswith("/*") else name == key


def _error(rows: dict[str, Row], tensor: str) -> float | None:
    return _size(rows[tensor]) if tensor in rows else None


def _size(row: Row) -> float:
    """Relative L2; infinite for what cannot be put into a number (shape, NaN on one side)."""
    return 0.0 if row.bitwise else math.inf if row.rel_l2 is None else row.rel_l2


def _origin(injected: float | None, passed_on: float | None, total: float | None) -> str:
    """In words, where the error of a stage comes from."""
    if not injected and not total:
        return "no error"
    if injected is None or total is None:
        return "not separable: seen in one mode only"
    if not injected:
        return "inherited"
    if not passed_on:
        return "born here"
    return "mostly born here" if injected >= passed_on else "mostly inherited"
