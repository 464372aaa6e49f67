"""What two recordings say beside their tensors: optimizer settings, training modes, parameters without a gradient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from parity.matching import Matching
from parity.recording import Recording
from parity.schema import Finding
from parity.verdict import Verdict
from parity.wording import listed


def compare_settings(reference: Recording, candidate: Recording, matching: Matching) -> list[Finding]:
    """Facts that both recorders noted, in the reference's names; settings that only one torch knows are not judged."""
    ours, theirs = (recording.manifest["structure"] for recording in (reference, candidate))
    if "optimizers" not in ours or "optimizers" not in theirs:
        return []
    back = _backwards(matching)
    optimizers = _named(theirs["optimizers"], back)
    known = {*back.values()} | (_members(ours["optimizers"]) & _members(optimizers))
    lacking = sorted({*ours["without_gradient"]} ^ {back.get(name, name) for name in theirs["without_gradient"]})
    return [
        _optimizers(ours["optimizers"], optimizers, known),
        _finding("training modes", _changes(ours["training"], _named(theirs["training"], back))),
        _finding(
            "parameters without a gradient",
            [f"{name}: on one side only" for name in lacking if name in known],
            [f"{name}: not compared, it has no counterpart" for name in lacking if name not in known],
        ),
    ]


def _finding(name: str, changes: list[str], facts: Iterable[str] = ()) -> Finding:
    return Finding(
        name=name,
        verdict=Verdict.DRIFT if changes else Verdict.IDENTICAL,
        detail="; ".join([*(changes or ["equal"]), *facts]),
    )


def _backwards(matching: Matching) -> dict[str, str]:
    """Candidate's name of a module, parameter or optimizer -> reference's, from the matched tensors."""
    back: dict[str, str] = {}
    for pair in matching.matches:
        (head, _, tail), (head_, _, tail_) = (name.partition("/") for name in (pair.reference, pair.candidate))
        back[head_] = head
        back[tail_.partition("@")[0].rpartition("/")[2]] = tail.partition("@")[0].rpartition("/")[2]
    return back


def _named(value: Any, back: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {back.get(key, key): _named(item, back) for key, item in value.items()}
    if isinstance(value, list):
        return [_named(item, back) for item in value]
    return back.get(value, value) if isinstance(value, str) else value


def _members(optimizers: Mapping[str, Any]) -> set[str]:
    return {name for optimizer in optimizers.values() for group in optimizer["groups"] for name in group["params"]}


def _optimizers(ours: Mapping[str, Any], theirs: Mapping[str, Any], known: set[str]) -> Finding:
    """Class, settings and members of each group; what order a group holds its members in is said, not judged.

    A parameter that has no counterpart (`known`: reference's names of what has one) can be in no wrong group.
    """
    changes, facts = list[str](), list[str]()
    for name in sorted(ours.keys() & theirs.keys()):
        one, other = ours[name], theirs[name]
        changes += _changes({f"{name} class": one["class"]}, {f"{name} class": other["class"]})
        for index, (group, partner) in enumerate(_partners(one["groups"], other["groups"], known)):
            title = f"{name} group {index}"
            before, after = ({f"{title} {k}": v for k, v in side.items() if k != "params"} for side in (group, partner))
            changes += _changes(before, after)
            mine, its = ([p for p in side.get("params", ()) if p in known] for side in (group, partner))
            changes += [f"{title} holds {p} on one side only" for p in sorted({*mine} ^ {*its})]
            facts += [f"{title} holds its parameters in another order"] * (mine != its and {*mine} == {*its})
        if unknown := sorted(_members({"": one}) - known | _members({"": other}) - known):
            facts.append(f"{name}: not compared, for they have no counterpart: {listed(unknown, most=12)}")
    return _finding("optimizers", changes, facts)


def _partners(ours: list[Any], theirs: list[Any], known: set[str]) -> list[tuple[Any, Any]]:
    """Each group of ours with the one of theirs that shares most members; of equals, the one in its place."""
    pairs, left = list[tuple[Any, Any]](), dict(enumerate(theirs))
    for index, group in enumerate(ours):
        members = {*group["params"]} & known
        order = sorted((-len(members & {*left[place]["params"]}), place != index, place) for place in left)
        pairs.append((group, left.pop(order[0][-1]) if order else {}))
    return [*pairs, *(({}, group) for group in left.values())]


def _changes(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Entries of both sides that are not equal."""
    return [f"{key}: {ours[key]} became {theirs[key]}" for key in ours if key in theirs and ours[key] != theirs[key]]
