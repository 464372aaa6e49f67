"""Pairs of operations, compared as they are computed, and why a pair that differs does.

An operation whose result differs although all it was given agrees is where a difference is born. What it was given is
known without looking twice: every value was compared when it was made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn

from parity.comparison import Drift, compare
from parity.ops import Call
from parity.pair.lockstep import OutOfStep, Produced
from parity.pair.names import tensors_of


class Cause(StrEnum):
    """Why the results of a pair of operations differ."""

    WEIGHT = "weight differs"
    ARGUMENT = "argument differs"
    INPUT = "fed something else"
    RANDOM = "draws other random numbers"
    BORN = "computes something else"
    INHERITED = "inherited"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One pair of operations.

    number: its place among the pairs. drifts: of each output tensor. cause: None if all outputs are the same bytes.
    detail: which weights (by their names on the candidate's side) or arguments differ.
    """

    number: int
    reference: Call
    candidate: Call
    drifts: tuple[Drift, ...]
    cause: Cause | None
    detail: str = ""

    @property
    def worst(self) -> Drift:
        """The drift of the output that differs most: a structural break before any figure."""
        return max(self.drifts, key=lambda drift: (bool(drift.structural), not drift.bitwise, drift.rel_l2 or 0.0))


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a gradient is going to flow on one side only: input number `place` of a pair of operations.

    side: the one without (0 reference, 1 candidate). call: that side's operation.
    """

    side: int
    call: Call
    place: int


@dataclass
class Watch:
    """Compares what meets (`parity.pair.lockstep.Meeting`).

    weights: the candidate's parameters and buffers by storage address. unequal: names of those that differ from the
    start. entries: every pair, in order. alone: operations without a partner, by side. cut: the first one.
    """

    weights: Mapping[int, str]
    unequal: frozenset[str]
    same_operations: bool = True
    entries: list[Entry] = field(default_factory=list)
    alone_calls: tuple[list[Call], list[Call]] = field(default_factory=lambda: ([], []))
    cut: Cut | None = None
    _latest: dict[int, tuple[tuple[object, ...], Drift]] = field(default_factory=dict)  # by the candidate's address
    _differing: set[int] = field(default_factory=set)  # addresses of the candidate's storages that hold other values

    def together(self, number: int, reference: Produced, candidate: Produced) -> None:
        """Compare one pair.

        Raises:
            OutOfStep: they are not the same operation.
        """
        if reference.call.op != candidate.call.op or len(reference.outputs) != len(candidate.outputs):
            raise OutOfStep(f"{reference.call.op} meets {candidate.call.op} at {reference.call.source}")
        self.cut = self.cut or _cut(reference, candidate)
        drifts = tuple(
            compare(a, b)
            for a, b in zip(reference.outputs, candidate.outputs, strict=True)
            if not _opaque(a, reference)
        )
        same = all(drift.bitwise for drift in drifts)
        cause, detail = (None, "") if same else self._cause(reference, candidate)
        self._remember(candidate.outputs, not same)
        if len(drifts) == len(reference.outputs):
            for a, b, drift in zip(reference.outputs, candidate.outputs, drifts, strict=True):
                self._latest[_address(b)] = (_identity(a, b), drift)
        if drifts:
            self.entries.append(
                Entry(
                    number=number,
                    reference=reference.call,
                    candidate=candidate.call,
                    drifts=drifts,
                    cause=cause,
                    detail=detail,
                )
            )

    def alone(self, side: int, produced: Produced) -> None:
        """Note an operation that only one side runs; what it makes of differing values counts as differing."""
        self.alone_calls[side].append(produced.call)
        if side == 1:
            self._remember(produced.outputs, any(_address(tensor) in self._differing for tensor in produced.inputs))

    def latest(self, reference: Tensor, candidate: Tensor) -> Drift | None:
        """The drift of two tensors if they are what an operation yielded last, as most gradients are."""
        identity, drift = self._latest.get(_address(candidate), ((), None))
        complete = not (self.alone_calls[0] or self.alone_calls[1])  # else memory may have changed hands unseen
        return drift if complete and identity == _identity(reference, candidate) else None

    def _remember(self, outputs: Any, differs: bool) -> None:
        for tensor in outputs:
            address = _address(tensor)
            if differs:
                self._differing.add(address)
            elif tensor.nbytes == tensor.untyped_storage().nbytes():  # of a part, the rest may still differ
                self._differing.discard(address)

    def _cause(self, reference: Produced, candidate: Produced) -> tuple[Cause, str]:
        weights = [self.weights.get(_address(tensor), "") for tensor in candidate.inputs]
        unequal = ", ".join(dict.fromkeys(name for name in weights if name in self.unequal))
        if any(_address(tensor) in self._differing for tensor in candidate.inputs):
            also = [f"weight {unequal}"] if unequal else []
            also += [arguments] if (arguments := _differing_arguments(reference.call, candidate.call)) else []
            return Cause.INHERITED, ", ".join(also)
        if unequal:
            return Cause.WEIGHT, unequal
        if arguments := _differing_arguments(reference.call, candidate.call):
            return Cause.ARGUMENT, arguments
        if inputs := _differing_inputs(reference, candidate):
            return Cause.INPUT, inputs
        return (Cause.RANDOM if candidate.call.random else Cause.BORN), ""


def weights_by_address(model: nn.Module) -> dict[int, str]:
    """Storage address -> name, of every parameter and buffer."""
    return {_address(tensor): name for name, tensor in tensors_of(model).items()}


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _identity(a: Tensor, b: Tensor) -> tuple[object, ...]:
    """What both tensors look at, and that neither was written to since."""
    return tuple(part for t in (a, b) for part in (_address(t), t.storage_offset(), t.shape, t.stride(), t._version))


def _cut(reference: Produced, candidate: Produced) -> Cut | None:
    if reference.carried == candidate.carried or len(reference.carried) != len(candidate.carried):
        return None
    place = [a == b for a, b in zip(reference.carried, candidate.carried, strict=True)].index(False)
    side = int(reference.carried[place])
    return Cut(side, (reference, candidate)[side].call, place)


def _opaque(output: Tensor, produced: Produced) -> bool:
    """Scratch space that a library keeps for its own backward pass holds no values."""
    return output.dtype is torch.uint8 and "cudnn" in produced.call.op


def _differing_arguments(reference: Call, candidate: Call) -> str:
    given = [dict(call.scalars) for call in (reference, candidate)]
    names = dict.fromkeys([*given[0], *given[1]])
    unequal = [name for name in names if given[0].get(name) != given[1].get(name)]
    return ", ".join(f"{name} {given[1].get(name)} instead of {given[0].get(name)}" for name in unequal)


def _differing_inputs(reference: Produced, candidate: Produced) -> str:
    """Positions of inputs whose values differ now; those that the operation itself overwrote are left out."""
    if len(reference.inputs) != len(candidate.inputs):
        return f"{len(candidate.inputs)} tensors instead of {len(reference.inputs)}"
    written = {_address(tensor) for tensor in candidate.outputs}
    pairs = enumerate(zip(reference.inputs, candidate.inputs, strict=True))
    found = [f"input {place}" for place, (a, b) in pairs if _address(b) not in written and not compare(a, b).bitwise]
    return ", ".join(found)
