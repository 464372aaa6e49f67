"""Which tensor of one recording answers to which of another: by a map of names, by equal names, or by structure.

Each pass only sees what the ones before it left over, and every match says which pass made it. What only its shape
could pair, with one tensor or with several, is refused: it stays unmatched until a map says it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import yaml

from parity.matching_map import Entry, Names, manual

Pass = Literal["manual", "exact", "structural"]


@dataclass(frozen=True)
class Match:
    """A pair of names and the pass that found it."""

    reference: str
    candidate: str
    by: Pass


@dataclass(frozen=True)
class Ambiguity:
    """Names of both sides that fit one another in more than one way."""

    reference: tuple[str, ...]
    candidate: tuple[str, ...]


@dataclass
class Matching:
    """matches: in the reference's order of calls. only_*: what the other side has no counterpart for.

    left_out: names of the reference that the map gives no counterpart.
    """

    matches: list[Match] = field(default_factory=list)
    only_reference: list[str] = field(default_factory=list)
    only_candidate: list[str] = field(default_factory=list)
    ambiguous: list[Ambiguity] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def count(self, by: Pass) -> int:
        """How many pairs a pass found."""
        return sum(match.by == by for match in self.matches)


def read_map(path: Path) -> dict[str, str | None]:
    """A YAML or JSON file of reference name -> candidate name; `*` in both stands for equal text.

    A name with "/" is that of a tensor. One without is that of a module, weight, buffer or optimizer, and speaks for
    all that was recorded of it and below it, in every step. null: what it names has no counterpart.

    Raises:
        ValueError: it is no such mapping.
    """
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: no readable map of names ({error})") from error
    if not isinstance(document, dict) or not all(
        isinstance(key, str) and isinstance(value, str | None) for key, value in document.items()
    ):
        raise ValueError(f"{path}: expected lines of `reference name: candidate name`, or null for none")
    lines = {key: value for key, value in document.items() if value is not None}
    if uneven := [key for key, value in lines.items() if key.count("*") != value.count("*") or key.count("*") > 1]:
        raise ValueError(f"{path}: {uneven[0]!r} needs the same number of * on both sides, at most one")
    if mixed := [key for key, value in lines.items() if ("/" in key) != ("/" in value)]:
        raise ValueError(f"{path}: {mixed[0]!r} pairs a tensor, which has a / in its name, with what is none")
    return document


def match(reference: Sequence[Entry], candidate: Sequence[Entry], names: Names | None = None) -> Matching:
    """Match two lists of entries, both in order of calls.

    Raises:
        ValueError: `names` mentions a name that its side does not have, or gives one candidate to two references.
    """
    pairs: dict[str, Match] = {}
    found, none = manual(names or {}, reference, candidate)
    pairs |= {one: Match(one, other, "manual") for one, other in found.items()}
    reference_ = [entry for entry in reference if entry.name not in none]
    left, right = _rest(reference_, candidate, pairs)
    present = {entry.name for entry in right}
    pairs |= {entry.name: Match(entry.name, entry.name, "exact") for entry in left if entry.name in present}
    left, right = _rest(reference_, candidate, pairs)
    pairs |= _structural(left, right)
    left, right = _rest(reference_, candidate, pairs)
    ambiguous = _ambiguous(left, right)
    unclear = {name for entry in ambiguous for name in (*entry.reference, *entry.candidate)}
    return Matching(
        matches=[pairs[entry.name] for entry in reference if entry.name in pairs],
        only_reference=[entry.name for entry in left if entry.name not in unclear],
        only_candidate=[entry.name for entry in right if entry.name not in unclear],
        ambiguous=ambiguous,
        left_out=[entry.name for entry in reference if entry.name in none],
    )


def _rest(
    reference: Sequence[Entry], candidate: Sequence[Entry], pairs: Mapping[str, Match]
) -> tuple[list[Entry], list[Entry]]:
    taken = {pair.candidate for pair in pairs.values()}
    return [entry for entry in reference if entry.name not in pairs], [e for e in candidate if e.name not in taken]


def _signature(entry: Entry) -> tuple[object, ...]:
    return entry.kind, entry.step, entry.shape, entry.dtype


def _structural(left: Sequence[Entry], right: Sequence[Entry]) -> dict[str, Match]:
    """Modules by order of calls, if both sides call the same sequence, and what belongs to them.

    A shape alone is no reason: a weight stored the other way round has the shape of its neighbour.
    """
    pairs = _in_order(left, right)
    renamed = {_module(one): _module(other) for one, other in pairs.items()}
    theirs = {entry.name: entry for entry in right}
    for entry in left:
        goal = _renamed(entry.name, renamed)
        if entry.name not in pairs and goal in theirs and _signature(theirs[goal]) == _signature(entry):
            pairs[entry.name] = goal
    return {one: Match(one, other, "structural") for one, other in pairs.items()}


def _in_order(left: Sequence[Entry], right: Sequence[Entry]) -> dict[str, str]:
    ours, theirs = ([entry for entry in side if entry.family] for side in (left, right))
    same = [(*_signature(entry), entry.family) for entry in ours] == [(*_signature(e), e.family) for e in theirs]
    return {one.name: other.name for one, other in zip(ours, theirs, strict=True)} if same else {}


def _module(name: str) -> str:
    return name.partition("/")[0]


def _renamed(name: str, modules: Mapping[str, str]) -> str | None:
    """`gradients/a.b.weight` in the other side's words, if the module a.b is matched."""
    head, _, full = name.rpartition("/")
    module, _, last = full.partition("@")[0].rpartition(".")
    if not head or module not in modules:
        return None
    return f"{head}/{modules[module]}.{last}" + ("@" + name.rpartition("@")[2] if "@" in name else "")


def _groups(entries: Iterable[Entry]) -> dict[tuple[object, ...], list[str]]:
    groups: dict[tuple[object, ...], list[str]] = {}
    for entry in entries:
        groups.setdefault(_signature(entry), []).append(entry.name)
    return groups


def _ambiguous(left: Sequence[Entry], right: Sequence[Entry]) -> list[Ambiguity]:
    # every weight has a step count of no shape: that such numbers could be one another goes without saying
    ours, theirs = (_groups(e for e in side if e.kind != "update" or e.shape) for side in (left, right))
    return [Ambiguity(tuple(names), tuple(theirs[key])) for key, names in ours.items() if key in theirs]
