"""Which values of one replay occur in another, whatever the operations around them are and how they are ordered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from parity.noise import C
from parity.ops import Call
from parity.sketch import Sketch, distance
from parity.tape import Step, Tape, Value

# Operations that pick, repeat or arrange elements and compute none: what they make of agreed values is agreed.
_MOVES = frozenset(
    {
        *(
            "arange",
            "cat",
            "clone",
            "constant_pad_nd",
            "copy",
            "embedding",
            "empty",
            "empty_like",
            "expand_copy",
            "flip",
        ),
        *("full", "full_like", "gather", "index", "index_select", "lift_fresh", "new_empty", "new_full", "new_ones"),
        *("new_zeros", "ones", "ones_like", "repeat", "roll", "select_backward", "slice_backward", "stack", "take"),
        *("_reshape_alias", "_to_copy", "_unsafe_view", "zeros", "zeros_like"),
    }
)


def base_name(call: Call) -> str:
    """An operation without namespace, overload and the underscore of its in-place form: "add" of "aten.add_.Tensor"."""
    return call.op.split(".")[1].rstrip("_") if call.op.startswith("aten.") else call.op


def moves_only(call: Call) -> bool:
    """Whether an operation computes no new elements."""
    return call.view or base_name(call) in _MOVES


@dataclass(frozen=True, slots=True)
class _Entry:
    sketch: Sketch
    allowed: float  # relative distance within which another value is the same but for rounding


class Values:
    """All values of a tape, to be searched."""

    def __init__(self, tape: Tape) -> None:
        self._exact: dict[tuple[int, int, bytes], list[str]] = defaultdict(list)
        self._bags: set[tuple[int, int, int]] = set()
        groups: dict[int, list[_Entry]] = defaultdict(list)
        for found, floor, op in _entries(tape):
            if found.key not in self._exact:
                groups[found.count].append(_Entry(found, C * max(floor, found.roundoff)))
            self._exact[found.key].append(op)
            self._bags.add((found.count, found.odd, found.bag))
        self._groups = {
            count: (entries, np.stack([e.sketch.parts for e in entries])) for count, entries in groups.items()
        }
        self._near: dict[tuple[int, int, bytes], tuple[float, bool]] = {}

    def same(self, wanted: Sketch) -> bool:
        """Whether this very value occurs."""
        return wanted.key in self._exact

    def made_by(self, wanted: Sketch, op: str) -> bool:
        """Whether an operation of that base name made this very value."""
        return op in self._exact.get(wanted.key, ())

    def close(self, wanted: Sketch) -> bool:
        """Whether a value occurs that differs by no more than C times its noise floor."""
        return self.nearest(wanted)[1]

    def arranged(self, wanted: Sketch) -> bool:
        """Whether a value with the same elements occurs, in whatever order."""
        return (wanted.count, wanted.odd, wanted.bag) in self._bags

    def nearest(self, wanted: Sketch) -> tuple[float, bool]:
        """Smallest relative distance to a value of the same size, and whether one is within its bound."""
        if wanted.key not in self._near:
            self._near[wanted.key] = self._search(wanted)
        return self._near[wanted.key]

    def _search(self, wanted: Sketch) -> tuple[float, bool]:
        if self.same(wanted):
            return 0.0, True
        entries, parts = self._groups.get(wanted.count, ([], np.empty((0, 0))))
        if not entries:
            return float("inf"), False
        order = np.linalg.norm(parts - wanted.parts, axis=1).argsort()[:4]
        apart = [(distance(entries[i].sketch, wanted), entries[i].allowed) for i in order]
        return min(d for d, _ in apart), any(d <= allowed for d, allowed in apart)


def _entries(tape: Tape) -> Iterator[tuple[Sketch, float, str]]:
    """Every value with its floor and the base name of the operation that made it, "" if it was only read."""
    made: dict[tuple[int, int, bytes], float] = {}
    for index, step in enumerate(tape.steps):
        floors = tape.floors[index] if tape.floors else (0.0,) * len(step.outputs)
        for value in step.inputs:
            yield value.sketch, made.get(value.sketch.key, 0.0), ""
        for found, floor in zip(step.outputs, floors, strict=True):
            made[found.key] = max(floor, made.get(found.key, 0.0))
            yield found, made[found.key], base_name(step.call)
    for value in (*tape.inputs.values(), *tape.results.values()):
        yield value.sketch, made.get(value.sketch.key, 0.0), ""


class Side:
    """One tape seen against the values of the other."""

    def __init__(self, tape: Tape, others: Values) -> None:
        self.tape, self._others = tape, others
        self._moved: list[bool] = []
        for step in tape.steps:
            self._moved.append(moves_only(step.call) and all(self.loose(value) for value in step.inputs))

    def strict(self, value: Value) -> bool:
        """The value occurs on the other side, but for rounding."""
        return self._others.close(value.sketch) and not self._degenerate(value)

    def loose(self, value: Value) -> bool:
        """So do its elements, in some order or as a selection."""
        if self.strict(value) or (self._others.arranged(value.sketch) and not self._degenerate(value)):
            return True
        return bool(value.writers) and all(self._moved[index] for index in value.writers)

    def outputs(self, index: int) -> list[Value]:
        """What a step made, as values that depend on it."""
        return [Value(found, (index,)) for found in self.tape.steps[index].outputs if found.count]

    def distance(self, step: Step) -> float:
        """Of a step's worst output to the nearest value of the other side, relative."""
        return max((self._others.nearest(found)[0] for found in step.outputs if found.count), default=0.0)

    def _degenerate(self, value: Value) -> bool:
        """All elements equal although computed from others: no evidence, unless made by the same operation."""
        if not value.writers or not value.sketch.constant or value.sketch.count == 1:
            return False
        step = self.tape.steps[value.writers[-1]]
        varied = any(not read.sketch.constant for read in step.inputs)
        return varied and not self._others.made_by(value.sketch, base_name(step.call))
