"""Which tensor of one recording answers to which of another: by a map of names, by equal names, or by structure.

Each pass only sees what the ones before it left over, and every match says which pass made it. What could be matched in
more than one way is refused: it stays unmatched until a map says it.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import yaml

OWN = "own "  # family of all classes that are not torch's: a refactoring may rename them
Pass = Literal["manual", "exact", "structural"]


@dataclass(frozen=True)
class Entry:
    """One tensor as matching sees it.

    name: `stage/tensor[@step]`. kind: what it is (forward, gradient, ...), only equal kinds match. family: class of the
    module that gave it (`OWN` unless torch's), "" where unknown.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    dtype: str
    family: str = ""

    @property
    def step(self) -> str:
        """Text after the last "@", "" for the first step."""
        return self.name.rpartition("@")[2] if "@" in self.name else ""


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
    """matches: in the reference's order of calls. only_*: what the other side has no counterpart for."""

    matches: list[Match] = field(default_factory=list)
    only_reference: list[str] = field(default_factory=list)
    only_candidate: list[str] = field(default_factory=list)
    ambiguous: list[Ambiguity] = field(default_factory=list)

    def count(self, by: Pass) -> int:
        """How many pairs a pass found."""
        return sum(match.by == by for match in self.matches)


def read_map(path: Path) -> dict[str, str]:
    """A YAML or JSON file of reference name -> candidate name; `*` in both stands for equal text.

    Raises:
        ValueError: it is no such mapping.
    """
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: no readable map of names ({error})") from error
    if not isinstance(document, dict) or not all(isinstance(name, str) for pair in document.items() for name in pair):
        raise ValueError(f"{path}: expected lines of `reference name: candidate name`")
    if uneven := [key for key, value in document.items() if key.count("*") != value.count("*") or key.count("*") > 1]:
        raise ValueError(f"{path}: {uneven[0]!r} needs the same number of * on both sides, at most one")
    return document


def match(reference: Sequence[Entry], candidate: Sequence[Entry], names: Mapping[str, str] | None = None) -> Matching:
    """Match two lists of entries, both in order of calls.

    Raises:
        ValueError: `names` mentions a name that its side does not have, or gives one candidate to two references.
    """
    pairs: dict[str, Match] = {}
    found = _manual(names or {}, reference, candidate)
    pairs |= {one: Match(one, other, "manual") for one, other in found.items()}
    left, right = _rest(reference, candidate, pairs)
    present = {entry.name for entry in right}
    pairs |= {entry.name: Match(entry.name, entry.name, "exact") for entry in left if entry.name in present}
    left, right = _rest(reference, candidate, pairs)
    pairs |= _structural(left, right)
    left, right = _rest(reference, candidate, pairs)
    ambiguous = _ambiguous(left, right)
    unclear = {name for entry in ambiguous for name in (*entry.reference, *entry.candidate)}
    return Matching(
        matches=[pairs[entry.name] for entry in reference if entry.name in pairs],
        only_reference=[entry.name for entry in left if entry.name not in unclear],
        only_candidate=[entry.name for entry in right if entry.name not in unclear],
        ambiguous=ambiguous,
    )


def _manual(names: Mapping[str, str], reference: Sequence[Entry], candidate: Sequence[Entry]) -> dict[str, str]:
    ours, theirs = [entry.name for entry in reference], {entry.name for entry in candidate}
    found: dict[str, str] = {}
    for pattern, target in names.items():
        hits = [name for name in ours if fnmatch.fnmatchcase(name, pattern)] if "*" in pattern else [pattern]
        before, _, after = pattern.partition("*")
        goals = {name: target.replace("*", name[len(before) : len(name) - len(after)]) for name in hits}
        if absent := [name for name in hits if name not in ours] or ([] if hits else [pattern]):
            raise ValueError(f"map of names: the reference has no {absent[0]!r}; {_nearest(absent[0], ours)}")
        if lost := [goal for goal in goals.values() if goal not in theirs]:
            raise ValueError(f"map of names: the candidate has no {lost[0]!r}; {_nearest(lost[0], theirs)}")
        found |= {name: goal for name, goal in goals.items() if name not in found}
    if twice := [goal for goal in found.values() if list(found.values()).count(goal) > 1]:
        raise ValueError(f"map of names: {twice[0]!r} is given to more than one name of the reference")
    return found


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.4)
    return f"near: {', '.join(close)}" if close else "no name is near it"


def _rest(
    reference: Sequence[Entry], candidate: Sequence[Entry], pairs: Mapping[str, Match]
) -> tuple[list[Entry], list[Entry]]:
    taken = {pair.candidate for pair in pairs.values()}
    return [entry for entry in reference if entry.name not in pairs], [e for e in candidate if e.name not in taken]


def _signature(entry: Entry) -> tuple[object, ...]:
    return entry.kind, entry.step, entry.shape, entry.dtype


def _structural(left: Sequence[Entry], right: Sequence[Entry]) -> dict[str, Match]:
    """Modules by order of calls, if both sides call the same sequence; what belongs to them; what can be only one."""
    pairs = _in_order(left, right)
    renamed = {_module(one): _module(other) for one, other in pairs.items()}
    theirs = {entry.name: entry for entry in right}
    for entry in left:
        goal = _renamed(entry.name, renamed)
        if entry.name not in pairs and goal in theirs and _signature(theirs[goal]) == _signature(entry):
            pairs[entry.name] = goal
    taken = set(pairs.values())
    ours = _groups(entry for entry in left if entry.name not in pairs)
    others = _groups(entry for entry in right if entry.name not in taken)
    for signature, names in ours.items():
        if len(names) == 1 and len(others.get(signature, ())) == 1:
            pairs[names[0]] = others[signature][0]
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
    ours, theirs = _groups(left), _groups(right)
    return [Ambiguity(tuple(names), tuple(theirs[key])) for key, names in ours.items() if key in theirs]
