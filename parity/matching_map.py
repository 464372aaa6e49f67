"""The lines of a map of names, applied to what a recording holds."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

OWN = "own "  # family of all classes that are not torch's: a refactoring may rename them
Names = Mapping[str, str | None]
# `module/out` begins with the name; that of weights, gradients and the like ends in it: `gradients/module.weight`.
_CALLED = ("forward", "input")
_UNNAMED = ("loss", "other")


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


def manual(names: Names, reference: Sequence[Entry], candidate: Sequence[Entry]) -> tuple[dict[str, str], set[str]]:
    """What the lines of a map pair, reference name -> candidate name, and the names that they give no counterpart.

    Raises:
        ValueError: a name that its side does not have, or one candidate given to two references.
    """
    found = _tensors({key: goal for key, goal in names.items() if "/" in key}, reference, candidate)
    rest = [entry for entry in reference if entry.name not in found]
    found = _things({key: goal for key, goal in names.items() if "/" not in key}, rest, candidate) | found
    pairs = {name: goal for name, goal in found.items() if goal is not None}
    if twice := [goal for goal in pairs.values() if list(pairs.values()).count(goal) > 1]:
        raise ValueError(f"map of names: {twice[0]!r} is given to more than one name of the reference")
    return pairs, found.keys() - pairs.keys()


def _tensors(names: Names, reference: Sequence[Entry], candidate: Sequence[Entry]) -> dict[str, str | None]:
    """Lines that name tensors, in every step unless they name one; the first that fits counts."""
    ours, theirs = [entry.name for entry in reference], {entry.name for entry in candidate}
    found: dict[str, str | None] = {}
    for pattern, target in names.items():
        hits = [name for name in ours if _fits(pattern, name) or _fits(pattern, name.partition("@")[0])]
        if not hits:
            raise ValueError(f"map of names: the reference has no {pattern!r}; {_nearest(pattern, ours)}")
        goals = {name: None if target is None else _goal(pattern, target, name) for name in hits}
        met = {name: goal for name, goal in goals.items() if goal is None or goal in theirs}
        if not met:
            lost = str(goals[hits[0]])
            raise ValueError(f"map of names: the candidate has no {lost!r}; {_nearest(lost, theirs)}")
        found = met | found
    return found


def _things(names: Names, reference: Sequence[Entry], candidate: Sequence[Entry]) -> dict[str, str | None]:
    """Lines that name modules, weights or optimizers: the longest that fits counts, for all kinds of tensors.

    A line may hit tensors that the candidate lacks (moments of another optimizer); if it lacks all, it is wrong.
    """
    lines = dict(sorted(names.items(), key=lambda line: -len(line[0])))
    found: dict[str, str | None] = {}
    present, hit, met = {entry.name for entry in candidate}, set[str](), set[str]()
    for entry in reference:
        used, goal = _renamed(entry, lines)
        hit |= used
        if used and (goal is None or goal in present):
            met |= used
            found[entry.name] = goal
    for pattern, target in lines.items():
        if pattern not in hit:
            raise ValueError(f"map of names: the reference has no {pattern!r}; {_nearest(pattern, _all(reference))}")
        if target is not None and pattern not in met:
            raise ValueError(f"map of names: the candidate has no {target!r}; {_nearest(target, _all(candidate))}")
    return found


def _renamed(entry: Entry, lines: Names) -> tuple[set[str], str | None]:
    """The lines that apply to an entry, and its name in the candidate's words; None where it has no counterpart."""
    before, thing, after = _parts(entry)
    used = {_first(lines, thing, _inside)} if thing else set()
    optimizer, slash, rest = before.partition("/")
    if entry.kind == "update":
        used.add(_first(lines, optimizer, str.__eq__))
    used.discard("")
    for line in used:
        target = lines[line]
        if target is None:
            return used, None
        if thing and _inside(line, thing):
            thing = _goal(line, target, thing)
        else:
            optimizer = target
    return used, f"{optimizer}{slash}{rest}{thing}{after}"


def _first(lines: Names, name: str, fits: Callable[[str, str], bool]) -> str:
    return next((line for line in lines if fits(line, name)), "")


def _parts(entry: Entry) -> tuple[str, str, str]:
    """A name cut into what is before the module or weight that it speaks of, that, and what is after it."""
    name = entry.name
    if entry.kind in _UNNAMED:
        return "", "", name
    if entry.kind in _CALLED:
        head, slash, rest = name.partition("/")
        return "", head, slash + rest
    head, slash, rest = name.rpartition("/")
    thing, at, step = rest.partition("@")
    return head + slash, thing, at + step


def spoken_of(name: str) -> str:
    """The shortest line of a map that speaks of a recorded tensor: its weight where it has one, without the step."""
    name = name.partition("@")[0]
    head, _, last = name.rpartition("/")
    return last if head and "." in last and not re.match(r"(in|out)[.#]", last) else name


def _all(entries: Iterable[Entry]) -> set[str]:
    found = {_parts(entry) for entry in entries}
    return {thing for _, thing, _ in found if thing} | {before.partition("/")[0] for before, _, _ in found if before}


def _fits(pattern: str, name: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern) if "*" in pattern else name == pattern


def _inside(pattern: str, thing: str) -> bool:
    return _fits(pattern, thing) or ("*" not in pattern and thing.startswith(f"{pattern}."))


def _goal(pattern: str, target: str, name: str) -> str:
    if "*" not in pattern:
        return target + name[len(pattern) :]
    name, at, step = (name, "", "") if fnmatch.fnmatchcase(name, pattern) else name.partition("@")
    before, _, after = pattern.partition("*")
    return target.replace("*", name[len(before) : len(name) - len(after)]) + at + step


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.4)
    return f"near: {', '.join(close)}" if close else "no name is near it"
