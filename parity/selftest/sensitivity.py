"""The smallest error of each stage that the audit still sees: recorded outputs scaled by 1 + e, judged as ever."""

from __future__ import annotations

import math

from torch import Tensor

from parity.comparison import compare
from parity.noise import Floors, read_floors
from parity.selftest.outcome import Ground
from parity.trace import load_trace
from parity.verdict import Verdict, judge
from parity.worker import pipeline_of

LARGEST_TENSORS = 3
_STEPS = 12  # bisections of the exponent between 1e-9 and 1: to a factor of 1.005
_LOW, _HIGH = -9.0, 0.0


def smallest_errors(ground: Ground) -> dict[str, float]:
    """Stage -> relative error of its outputs that is just called drift; stages without floor are left out.

    Of a stage with many tensors the largest few stand for all.
    """
    floors, trace = read_floors(ground.floors)[0]["isolated"], load_trace(ground.reference)
    found = {}
    for stage in pipeline_of(ground.spec).names:
        tensors = {f"{stage}/{name}": value for name, value in trace.stage(stage).items() if value.is_floating_point()}
        largest = sorted(tensors, key=lambda key: tensors[key].numel(), reverse=True)[:LARGEST_TENSORS]
        errors = [just_seen(tensors[key], key, floors) for key in largest if key in floors]
        if errors:
            found[stage] = min(errors)
    return found


def just_seen(tensor: Tensor, key: str, floors: Floors) -> float:
    """The smallest relative error of one tensor that is drift, by bisection of its exponent; infinite if none is."""

    def drifts(exponent: float) -> bool:
        return judge(compare(tensor, tensor * (1 + 10.0**exponent)), floors[key])[0] is Verdict.DRIFT

    low, high = _LOW, _HIGH
    if not drifts(high):
        return math.inf
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if drifts(middle) else (middle, high)
    return 10.0**high
