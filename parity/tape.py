"""One replay written down operation by operation: where each ran, what it read and what came out, as sketches.

Values are followed by the memory they live in: a value read depends on the operation that made it, on those that looked
at its memory another way to get it, and on all that wrote into that memory since. Kernels outside PyTorch's dispatcher
(compiled extensions) are not seen; what they wrote is noticed when it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from parity.ops import Call, listening
from parity.sketch import Sketch, distance, sketch

_Geometry = tuple[int, tuple[int, ...], tuple[int, ...]]
# Memory that these hand out is often filled by kernels that nobody announces: what it holds must be looked at again.
_BLANKS = ("empty", "full", "zeros", "ones", "new_")
# The same elements of the same memory once more: no step on the way of a value.
_ALIASES = ("aten.alias.", "aten.detach.")


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor as it was read: `writers` are the operations it depends on directly, none if it came from outside.

    name: of the parameter, buffer or stage input whose memory it lives in.
    """

    sketch: Sketch
    writers: tuple[int, ...]
    name: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One operation with the values that it read and made."""

    call: Call
    inputs: tuple[Value, ...]
    outputs: tuple[Sketch, ...]


@dataclass(frozen=True, kw_only=True)
class Tape:
    """A replay: its operations in order and its named results.

    floors: for every step, the largest relative distance of each of its outputs under one-ULP changes of the inputs;
    empty where it was not measured.
    """

    steps: tuple[Step, ...]
    results: Mapping[str, Value]
    inputs: Mapping[str, Value] = field(default_factory=dict)
    floors: tuple[tuple[float, ...], ...] = ()


def record(
    replay: Callable[[dict[str, Tensor]], Mapping[str, Tensor]],
    inputs: Mapping[str, Tensor],
    modules: Mapping[str, nn.Module] | None = None,
) -> Tape:
    """Run `replay` on private copies of `inputs` and write down what it does; `modules` (prefix -> root) give names."""
    given = {name: tensor.clone() for name, tensor in inputs.items()}
    writer = _Writer(modules or {}, given)
    with listening(writer, modules or {}):
        results = replay(given)
    return Tape(
        steps=tuple(writer.steps),
        results={name: writer.value(tensor) for name, tensor in results.items()},
        inputs={name: Value(sketch(tensor), (), name) for name, tensor in inputs.items()},
    )


def with_floors(tape: Tape, moved: Sequence[Tape]) -> Tape:
    """`tape` with the floors that replays on moved inputs show; where these run other operations there is none."""
    floors = []
    for index, step in enumerate(tape.steps):
        others = [other.steps[index].outputs for other in moved if _same_step(other, index, step)]
        floors.append(
            tuple(
                max((distance(mine, other[place]) for other in others), default=0.0)
                for place, mine in enumerate(step.outputs)
            )
        )
    return replace(tape, floors=tuple(floors))


def _same_step(other: Tape, index: int, step: Step) -> bool:
    if index >= len(other.steps):
        return False
    theirs = other.steps[index]
    return theirs.call.op == step.call.op and len(theirs.outputs) == len(step.outputs)


class _Writer:
    """Listens, and keeps track of memory."""

    def __init__(self, modules: Mapping[str, nn.Module], inputs: Mapping[str, Tensor]) -> None:
        self.steps: list[Step] = []
        self._names = {_memory(tensor): name for name, tensor in inputs.items()}
        for prefix, root in modules.items():
            for name, tensor in (*root.named_parameters(), *root.named_buffers()):
                self._names.setdefault(_memory(tensor), ".".join(part for part in (prefix, name) if part))
        self._written: dict[int, list[int]] = {}  # memory -> the operations that made it or wrote into it
        self._views: dict[int, dict[_Geometry, int]] = {}  # memory -> how it was looked at -> by which operation
        self._seen: dict[tuple[int, _Geometry, int], Sketch] = {}
        self._entering: tuple[Value, ...] = ()

    def before(self, call: Call, inputs: Sequence[Tensor]) -> None:
        self._entering = tuple(self.value(tensor) for tensor in inputs)

    def after(self, call: Call, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        index, given = len(self.steps), {_memory(tensor) for tensor in inputs}
        for tensor in outputs:
            self._made(tensor, index, call, given)
        sketches = tuple(self._sketched(tensor, keep=not _blank(call)) for tensor in outputs)
        self.steps.append(Step(call, self._entering, sketches))

    def value(self, tensor: Tensor) -> Value:
        memory, geometry = _memory(tensor), _geometry(tensor)
        written = self._written.get(memory, [])
        view = self._views.get(memory, {}).get(geometry)
        writers = written if view is None else [view, *(index for index in written if index > view)]
        name = "" if written else self._names.get(memory, "")
        return Value(self._sketched(tensor, keep=False), tuple(writers), name)

    def _made(self, tensor: Tensor, index: int, call: Call, given: set[int]) -> None:
        memory = _memory(tensor)
        if memory not in given:
            self._written[memory], self._views[memory] = [index], {}
        elif call.op.startswith(_ALIASES):
            return
        elif call.view:
            self._views.setdefault(memory, {})[_geometry(tensor)] = index
        else:
            self._written.setdefault(memory, []).append(index)

    def _sketched(self, tensor: Tensor, *, keep: bool) -> Sketch:
        memory = _memory(tensor)
        written = self._written.get(memory, [-1])
        key = (memory, _geometry(tensor), hash(tuple(written)))
        if key not in self._seen:
            found = sketch(tensor)
            if not keep:
                return found
            self._seen[key] = found
        return self._seen[key]


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _geometry(tensor: Tensor) -> _Geometry:
    return (int(tensor.storage_offset()), tuple(tensor.shape), tuple(tensor.stride()))


def _blank(call: Call) -> bool:
    return call.op.removeprefix("aten.").startswith(_BLANKS)
