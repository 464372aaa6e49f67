"""Registered discrepancies of modern against legacy: expected, bounded, and strict.

Each entry states the exact fact on both sides; if either side changes, or the difference vanishes, the audit fails, so
that this list cannot rot. Ids are those of the list of suspected defects in docs/defects.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Discrepancy:
    """One expected difference in a structural fact of the traces.

    fact: key of `Trace.structure`; legacy and modern: the value each side must show.
    """

    id: str
    stage: str
    fact: str
    legacy: Any
    modern: Any
    reason: str
    since: str


REGISTRY: tuple[Discrepancy, ...] = (
    Discrepancy(
        id="D24",
        stage="losses",
        fact="mutated_inputs",
        legacy=["landmark", "landmark_dense"],
        modern=[],
        reason="legacy's landmark losses write the weighted visibility back into the batch; modern does not",
        since="0.1.0",
    ),
)
