"""Which operations of two sides that do not run the same ones are the same, as far as that is certain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from parity.ops import Call
from parity.pair.align import Alignment, align
from parity.pair.generators import generators_kept
from parity.pair.lockstep import Plan, is_value
from parity.pair.names import WeightMap
from parity.pair.side import Side, state_kept


@dataclass
class Listing:
    """Every operation that computes a value, with the shapes of what it yields (a `parity.ops.Listener`)."""

    calls: list[tuple[Call, tuple[tuple[int, ...], ...]]] = field(default_factory=list)

    def before(self, call: Call, inputs: Sequence[Tensor]) -> None:
        """Nothing to do."""

    def after(self, call: Call, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        """Note one operation."""
        if is_value(call, outputs):
            self.calls.append((call, tuple(tuple(tensor.shape) for tensor in outputs)))


def in_order(side: int, number: int) -> int:
    """The plan for two sides that run the same operations: each meets its like."""
    return number


def plan_by_alignment(sides: Sequence[Side], weights: WeightMap) -> tuple[Plan, Alignment]:
    """List the operations of both sides in one run each, which leaves no trace, and align them.

    Equal are operations of one name and equal shapes in modules that `weights` pairs.
    """
    listings = [_listed(side) for side in sides]
    modules = paired_modules(weights)
    own = [{pair[side]: pair[0] for pair in modules} for side in range(2)]
    keys = [
        [(call.op, shapes, _within(call.module, own[side])) for call, shapes in listing.calls]
        for side, listing in enumerate(listings)
    ]
    alignment = align(*keys)
    meetings = [{places[side]: number for number, places in enumerate(alignment.pairs)} for side in range(2)]
    return (lambda side, number: meetings[side].get(number)), alignment


def paired_modules(weights: WeightMap) -> set[tuple[str, str]]:
    """(module of the reference, of the candidate) that hold a weight of each other, where that is one to one."""
    pairs = {
        (match.reference[0].rpartition(".")[0], key.rpartition(".")[0])
        for key, match in weights.matches.items()
        if len(match.reference) == 1
    }
    alone = [sum(pair[side] == other[side] for other in pairs) for pair in pairs for side in range(2)]
    return {pair for pair, left, right in zip(pairs, alone[::2], alone[1::2], strict=True) if left == right == 1}


def _listed(side: Side) -> Listing:
    listing, copied = Listing(), Side(side.model, side.copied_inputs(), side.loss)
    with generators_kept(), state_kept(side.model):
        copied.step(listing)
    return listing


def _within(module: str, known: Mapping[str, str]) -> str:
    """The name that `known` has for the innermost module around `module`."""
    while module and module not in known:
        module = module.rpartition(".")[0]
    return known.get(module, "")
