"""What two recordings say beside their tensors: optimizer settings, training modes, parameters without a gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parity.matching import Matching
from parity.recording import Recording
from parity.schema import Finding
from parity.verdict import Verdict


def compare_settings(reference: Recording, candidate: Recording, matching: Matching) -> list[Finding]:
    """Facts that both recorders noted, in the reference's names; settings that only one torch knows are not judged."""
    ours, theirs = (recording.manifest["structure"] for recording in (reference, candidate))
    if "optimizers" not in ours or "optimizers" not in theirs:
        return []
    back = _backwards(matching)
    found = [
        _finding("optimizers", _changes(_flat(ours["optimizers"]), _flat(_named(theirs["optimizers"], back)))),
        _finding("training modes", _changes(ours["training"], _named(theirs["training"], back))),
    ]
    missing = sorted({*ours["without_gradient"]} ^ {back.get(name, name) for name in theirs["without_gradient"]})
    return [*found, _finding("parameters without a gradient", [f"{name}: on one side only" for name in missing])]


def _finding(name: str, changes: list[str]) -> Finding:
    return Finding(
        name=name,
        verdict=Verdict.DRIFT if changes else Verdict.IDENTICAL,
        detail="; ".join(changes) or "equal",
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


def _flat(optimizers: Mapping[str, Any]) -> dict[str, Any]:
    """`adam.0.lr` -> value; the parameters of a group stay one list, whose order matters."""
    flat: dict[str, Any] = {}
    for name, optimizer in optimizers.items():
        flat[f"{name} class"] = optimizer["class"]
        for index, group in enumerate(optimizer["groups"]):
            flat |= {f"{name} group {index} {key}": value for key, value in group.items()}
    return flat


def _changes(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Entries of both sides that are not equal."""
    return [f"{key}: {ours[key]} became {theirs[key]}" for key in ours if key in theirs and ours[key] != theirs[key]]
