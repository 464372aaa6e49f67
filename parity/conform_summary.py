"""Groups of vectors in one line each: how many agree, and how close the worst comes to its bound."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.table import Table

from parity.conform_report import Outcome, SubjectReport, Vector

_DEPTH = 3  # parts of a vector's name that make its group


@dataclass(frozen=True, kw_only=True)
class Group:
    """Vectors whose names begin alike; `share` is the worst figure as a share of its bound, of vector `worst`."""

    name: str
    counts: dict[Outcome, int]
    share: float | None
    worst: str


def group_name(vector: str) -> str:
    """The leading parts of a vector's name, without its last one."""
    parts = vector.split("/")
    return "/".join(parts[: max(1, min(_DEPTH, len(parts) - 1))])


def summarised(vectors: Iterable[Vector]) -> list[Group]:
    """The groups in the order of their first vector."""
    members: dict[str, list[Vector]] = {}
    for vector in vectors:
        members.setdefault(group_name(vector.name), []).append(vector)
    return [_group(name, found) for name, found in members.items()]


def _group(name: str, members: list[Vector]) -> Group:
    counts = {word: count for word in Outcome if (count := sum(vector.outcome is word for vector in members))}
    shares = {vector.name: _share(vector) for vector in members if vector.outcome is not Outcome.KNOWN}
    judged = {vector: share for vector, share in shares.items() if share is not None}
    worst = max(judged, key=lambda vector: judged[vector], default="")
    return Group(name=name, counts=counts, share=judged.get(worst), worst=worst)


def _share(vector: Vector) -> float | None:
    """The figure as a share of the bound; an exact vector is at 0 or infinitely far."""
    if vector.figure is None or vector.bound is None:
        return None
    if math.isnan(vector.figure):
        return math.inf
    return vector.figure / vector.bound if vector.bound else math.inf if vector.figure else 0.0


def common_disagreements(parts: Sequence[SubjectReport]) -> str:
    """Who disagrees where, in a sentence: what both sides miss points at the platform or the recipe, not at a side."""
    wrong = {part.subject: {row.name for row in part.vectors if row.outcome is Outcome.DISAGREES} for part in parts}
    if len(wrong) < 2 or not any(wrong.values()):
        return ""
    shared = set.intersection(*wrong.values())
    alone = ", ".join(f"{len(names - shared)} only of {subject}" for subject, names in wrong.items())
    return f"disagreements: {len(shared)} of every subject alike, {alone}"


def summary_table(part: SubjectReport) -> Table:
    """One row per group."""
    table = Table(title=f"{part.subject} by group", title_justify="left", box=None, pad_edge=False)
    table.add_column("group", no_wrap=True)
    for word in Outcome:
        table.add_column(word.value, justify="right", no_wrap=True)
    table.add_column("worst/bound", justify="right", no_wrap=True)
    table.add_column("worst vector", overflow="fold")
    for group in summarised(part.vectors):
        counts = [str(group.counts.get(word, "")) for word in Outcome]
        share = "" if group.share is None else f"{group.share:.3g}"
        style = "bold red" if group.counts.get(Outcome.DISAGREES) else ""
        table.add_row(group.name, *counts, share, group.worst.removeprefix(group.name + "/"), style=style)
    return table
