"""The smallest error of each stage that the audit still sees: recorded outputs scaled by 1 + e, judged as ever."""

from __future__ import annotations

import math

from torch import Tensor

from parity.comparison import compare
from parity.noise import C, Floors, read_floors
from parity.selftest.outcome import Ground
from parity.trace import load_trace
from parity.verdict import excess
from parity.worker import pipeline_of

LARGEST_TENSORS = 3
_WIDTH = 0.01  # of the exponent, at the end: a factor of 1.02
_LOW, _MIDDLE, _HIGH = -9.0, -3.0, 0.0


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

    def ratio(exponent: float) -> float:
        return excess(compare(tensor, tensor * (1 + 10.0**exponent)), floors[key])

    known = ratio(_MIDDLE)
    guess = _MIDDLE + math.log10(C / known) if 0 < known < math.inf else _LOW  # differences grow with the error
    guess, width = min(guess, _HIGH), _WIDTH
    if ratio(guess) > C:
        low, high = guess - width, guess
        while low > _LOW and ratio(low) > C:
            width *= 2
            low, high = low - width, low
    else:
        low, high = guess, guess + width
        while ratio(high) <= C:
            if high >= _HIGH:
                return math.inf
            width *= 2
            low, high = high, high + width
    while high - low > _WIDTH:
        middle = (low + high) / 2
        low, high = (low, middle) if ratio(middle) > C else (middle, high)
    return 10.0**high
