"""Structural comparison of two traces: keys, order, shapes, dtypes, aliasing, mutated inputs, random draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deepdiff import DeepDiff

from parity.discrepancies import REGISTRY, Discrepancy
from parity.trace import Trace
from parity.verdict import Verdict


@dataclass(frozen=True, kw_only=True)
class StructuralFinding:
    """One structural fact, compared; `known` names the registered discrepancy when one applies."""

    name: str
    verdict: Verdict
    detail: str
    known: Discrepancy | None = None


def compare_structure(legacy: Trace, modern: Trace, pipeline: str = "coarse") -> list[StructuralFinding]:
    """Compare every structural fact either side recorded, the tensor names, and the random draws in order."""
    sides = [
        {**trace.structure, "tensors": sorted(trace.tensors), "draws": _of_a_step(trace.draws)}
        for trace in (legacy, modern)
    ]
    registered = {entry.fact: entry for entry in REGISTRY if entry.pipeline == pipeline}
    facts = list(dict.fromkeys([*sides[0], *sides[1]]))
    return [_compare_fact(fact, sides[0].get(fact), sides[1].get(fact), registered.get(fact)) for fact in facts]


# States, places and uses are for the ledger: they differ between sides that draw the same.
_OF_A_DRAW = ("op", "shape", "p", "generator")


def _of_a_step(draws: list[dict[str, Any]]) -> list[Any]:
    """What one step draws, if all steps draw alike; else the draws of each step."""
    steps: dict[int, list[dict[str, Any]]] = {}
    for draw in draws:
        steps.setdefault(draw["step"], []).append({key: draw.get(key) for key in _OF_A_DRAW})
    kinds = list(steps.values())
    return kinds[0] if kinds and all(kind == kinds[0] for kind in kinds) else kinds


def _compare_fact(fact: str, legacy: Any, modern: Any, known: Discrepancy | None) -> StructuralFinding:
    difference = DeepDiff(legacy, modern, ignore_type_in_groups=[(list, tuple)], verbose_level=2)
    if known is not None:
        return _compare_known(fact, legacy, modern, known)
    if not difference:
        return StructuralFinding(name=fact, verdict=Verdict.IDENTICAL, detail="equal")
    return StructuralFinding(name=fact, verdict=Verdict.DRIFT, detail=difference.pretty())


def _compare_known(fact: str, legacy: Any, modern: Any, known: Discrepancy) -> StructuralFinding:
    if legacy == known.legacy and modern == known.modern:
        return StructuralFinding(name=fact, verdict=Verdict.KNOWN, detail=f"{known.id}: {known.reason}", known=known)
    detail = f"{known.id} is registered as {known.legacy} against {known.modern}, found {legacy} against {modern}"
    return StructuralFinding(name=fact, verdict=Verdict.DRIFT, detail=detail, known=known)
