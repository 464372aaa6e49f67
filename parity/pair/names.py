"""Which weight of the candidate is which of the reference: said by the user, same name, or same use; never guessed.

The structural pass looks at the order in which the two forwards use their weights. Two weights of one shape that are
used on the same value (query, key and value of attention) cannot be told apart that way and are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from parity.ops import Call, listening
from parity.pair.align import align
from parity.pair.lockstep import is_value

TURNED = (
    "it is square, and no open weight of the reference is read the same way round: it may be the transpose of one "
    "(WEIGHTS: lambda ref: ref[NAME].T)"
)
UNUSED = "the candidate's forward does not use it"
How = Literal["manual", "exact", "structural"]
Gather = Callable[[Mapping[str, Tensor]], Tensor]
Names = Mapping[str, str]
Weights = Mapping[str, "str | Gather"]


@dataclass(frozen=True)
class Match:
    """One weight of the candidate: the weights of the reference it is made of, how, and which pass found it.

    gather: from the reference's tensors by name to the candidate's; only moves values (picks, joins, reshapes), so that
    it serves gradients and moments as well.
    """

    candidate: str
    reference: tuple[str, ...]
    how: How
    gather: Gather


@dataclass(frozen=True)
class WeightMap:
    """matches: by the candidate's name. The rest is what no pass could match, with the reason where there is one.

    mirrored: the second side is a copy of the reference, whose tensors are gathered as well.
    """

    matches: dict[str, Match]
    only_reference: list[str]
    only_candidate: list[str]
    refused: dict[str, str]
    mirrored: bool = False


def renamed(name: str, names: Names) -> str | None:
    """The candidate's name that `names` (reference -> candidate, modules or weights) gives; the longest entry wins."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        prefix = ".".join(parts[:length])
        if prefix in names:
            return ".".join([part for part in (names[prefix], *parts[length:]) if part])
    return None


def match_weights(
    reference: nn.Module,
    candidate: nn.Module,
    forwards: Sequence[Callable[[], Any]],
    names: Names | None = None,
    weights: Weights | None = None,
) -> WeightMap:
    """Match parameters and buffers of both models: manual, then exact, then structural.

    Args:
        reference: the model trusted.
        candidate: the model examined.
        forwards: run either forward once; called only if names leave something open.
        names: reference name -> candidate name, of modules or single weights.
        weights: candidate weight -> reference weight, or a function of all weights of the reference.

    Raises:
        ValueError: an entry of `names` or `weights` that fits nothing, gives another shape, or does not merely move
            values.
    """
    left, right = tensors_of(reference), tensors_of(candidate)
    names, weights = names or {}, weights or {}
    check_names(reference, candidate, names)
    found = {key: _manual(key, entry, left, right) for key, entry in weights.items()}
    taken = {name for match in found.values() for name in match.reference}
    for name, value in left.items():
        manual = renamed(name, names)
        key = manual if manual is not None else name
        if key in right and key not in found and (name not in taken or manual is not None):
            if right[key].shape != value.shape:
                if manual is not None:
                    raise ValueError(_shapes(f"NAMES pairs {name!r} with {key!r}", value, right[key]))
                continue
            found[key] = _plain(key, name, "exact" if manual is None else "manual")
            taken.add(name)
    refused: dict[str, str] = {}
    if set(left) - taken and set(right) - set(found):
        structural, refused = _structural(reference, candidate, forwards, found, taken)
        found |= structural
        taken |= {match.reference[0] for match in structural.values()}
    return WeightMap(
        matches={key: found[key] for key in right if key in found},
        only_reference=[name for name in left if name not in taken],
        only_candidate=[key for key in right if key not in found],
        refused=refused,
    )


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, each once."""
    return dict([*model.named_parameters(), *model.named_buffers()])


def check_names(reference: nn.Module, candidate: nn.Module, names: Names) -> None:
    """Raise ValueError for an entry of `names` that names no module or weight."""
    known = [{name for name, _ in model.named_modules()} | set(tensors_of(model)) for model in (reference, candidate)]
    for place, (side, entries) in enumerate((("reference", names), ("candidate", names.values()))):
        for name in entries:
            if name not in known[place]:
                raise ValueError(f"NAMES: the {side} has no module or weight {name!r}; {_nearest(name, known[place])}")


def _nearest(name: str, known: set[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, sorted(known), n=3, cutoff=0.4)
    return f"did you mean {' or '.join(map(repr, close))}?" if close else f"it has {', '.join(sorted(known)[1:6])}, ..."


def _plain(key: str, name: str, how: How) -> Match:
    return Match(key, (name,), how, lambda tensors: tensors[name])


def _manual(key: str, entry: str | Gather, left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> Match:
    if key not in right:
        raise ValueError(f"WEIGHTS: the candidate has no weight {key!r}; {_nearest(key, set(right))}")
    gather: Gather = entry if callable(entry) else (lambda tensors: tensors[entry])
    asked = _Asked(left)
    try:
        value = gather(asked)
    except KeyError as error:
        name = str(error.args[0])
        raise ValueError(
            f"WEIGHTS[{key!r}]: the reference has no weight {name!r}; {_nearest(name, set(left))}"
        ) from None
    if value.shape != right[key].shape:
        raise ValueError(_shapes(f"WEIGHTS[{key!r}] from {', '.join(asked.names)}", value, right[key]))
    _check_moves(key, gather, left, asked.names)
    return Match(key, tuple(asked.names), "manual", gather)


def _shapes(what: str, reference: Tensor, candidate: Tensor) -> str:
    return f"{what}: shape {list(reference.shape)} of the reference, {list(candidate.shape)} of the candidate"


def _check_moves(key: str, gather: Gather, left: Mapping[str, Tensor], names: Sequence[str]) -> None:
    """Number all elements; a function that only moves values returns each number at most once."""
    numbered, start = {}, 1
    for name in names:
        count = left[name].numel()
        numbered[name] = torch.arange(start, start + count, dtype=torch.float64).reshape(left[name].shape)
        start += count
    moved = gather(numbered).reshape(-1)
    kept = moved[(moved >= 1) & (moved < start) & (moved == moved.round())].unique()
    if len(kept) != len(moved):
        raise ValueError(
            f"WEIGHTS[{key!r}] must only move values (index, cat, reshape, transpose): it has to serve gradients and "
            "moments as well; give a pair of weights that differ by arithmetic their own values with WEIGHTS_FROM='own'"
        )


class _Asked(dict[str, Tensor]):
    """A dict that remembers what was looked up."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(tensors)
        self.names: list[str] = []

    def __getitem__(self, name: str) -> Tensor:
        value = super().__getitem__(name)
        if name not in self.names:
            self.names.append(name)
        return value


@dataclass(frozen=True)
class _Use:
    name: str
    shape: tuple[int, ...]
    place: int  # among the inputs of the operation: tells a weight from its bias
    way: tuple[int, ...]  # how a square weight lies in the operation that reads it: shape does not tell its transpose
    reads: tuple[int, ...]  # numbers of the operations whose results are used along with it


class _Uses:
    """Listens for the first use of every weight."""

    def __init__(self, model: nn.Module) -> None:
        self._left = {tensor.untyped_storage().data_ptr(): (n, tensor) for n, tensor in tensors_of(model).items()}
        self._names = set(self._left)
        self._maker: dict[int, int] = {}
        self.uses: list[_Use] = []

    def before(self, call: Call, inputs: Sequence[Tensor]) -> None:
        """Nothing to do."""

    def after(self, call: Call, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        """Note which weights were read together with which values."""
        if not is_value(call, outputs):
            return
        addresses = [tensor.untyped_storage().data_ptr() for tensor in inputs]
        reads = tuple(self._maker.get(address, -1) for address in addresses if address not in self._names)
        for place, address in enumerate(addresses):
            if address in self._left:
                name, tensor = self._left.pop(address)
                way = _way(tensor, inputs[place], len(inputs) - place)
                self.uses.append(_Use(name, tuple(tensor.shape), place, way, reads))
        for tensor in outputs:
            self._maker[tensor.untyped_storage().data_ptr()] = call.index


def _structural(
    reference: nn.Module,
    candidate: nn.Module,
    forwards: Sequence[Callable[[], Any]],
    found: Mapping[str, Match],
    taken: set[str],
) -> tuple[dict[str, Match], dict[str, str]]:
    uses = []
    for model, forward in zip((reference, candidate), forwards, strict=True):
        listener = _Uses(model)
        with listening(listener, {"": model}):
            forward()
        uses.append(listener.uses)
    anchors = {match.reference[0]: key for key, match in found.items() if len(match.reference) == 1}
    first = [("paired", anchors[use.name]) if use.name in anchors else _open(use) for use in uses[0]]
    second = [("paired", use.name) if use.name in found else _open(use) for use in uses[1]]
    alignment = align(first, second)
    matches, refused = {}, {}
    siblings = [_siblings(side, closed) for side, closed in zip(uses, (taken, set(found)), strict=True)]
    for i, j in alignment.pairs:
        name, key = uses[0][i].name, uses[1][j].name
        if name in taken or key in found:
            continue
        twins = siblings[0].get(name) or siblings[1].get(key)
        if twins:
            refused[key] = f"{', '.join(twins)} have one shape and are used on the same value"
        else:
            matches[key] = _plain(key, name, "structural")
    for group in alignment.ambiguous:
        for _, j in group:
            options = sorted({uses[0][i].name for i, other in group if other == j})
            refused.setdefault(uses[1][j].name, f"could be any of {', '.join(options)}")
    for use in uses[1]:
        if use.way and use.name not in found and use.name not in matches:
            refused.setdefault(use.name, TURNED)
    used = {use.name for use in uses[1]}
    refused.update({key: UNUSED for key in tensors_of(candidate) if key not in found and key not in used})
    return matches, refused


def _open(use: _Use) -> tuple[Any, ...]:
    return "open", use.shape, use.way


def _way(weight: Tensor, read: Tensor, from_the_end: int) -> tuple[int, ...]:
    """Of a weight with two equal axes: the place and strides of the view that an operation reads; else ().

    () as well of a kernel in its own layout, whatever that is.
    """
    axes = [size for size in weight.shape if size > 1]
    as_it_lies = read.shape == weight.shape and read.stride() == weight.stride()
    if len(set(axes)) == len(axes) or (as_it_lies and weight.dim() > 2):
        return ()
    return (from_the_end, *read.shape, *read.stride())


def _siblings(uses: Sequence[_Use], closed: set[str]) -> dict[str, list[str]]:
    """Open weights that share shape, place and company with another open weight."""
    groups: dict[Any, list[str]] = {}
    for use in uses:
        if use.name not in closed:
            groups.setdefault((use.shape, use.place, use.reads), []).append(use.name)
    return {name: group for group in groups.values() if len(group) > 1 for name in group}
