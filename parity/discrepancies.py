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


_CODES = ["shape", "tex", "exp", "pose", "cam", "light"]
_RECORD = "modern's codes are a typed record in one fixed order; the photograph travels beside them, not among them"

REGISTRY: tuple[Discrepancy, ...] = (
    Discrepancy(
        id="R01",
        stage="deca_codes",
        fact="codedict_keys",
        legacy=[*_CODES, "images"],
        modern=_CODES,
        reason=_RECORD,
        since="0.1.0",
    ),
    Discrepancy(
        id="R01",
        stage="codes",
        fact="codedict_our_keys",
        legacy=["tex", "exp", "light", "images", "shape", "cam", "pose"],
        modern=_CODES,
        reason=_RECORD,
        since="0.1.0",
    ),
    Discrepancy(
        id="D18",
        stage="codes",
        fact="aliases",
        legacy=[[f"codedict/{name}", f"codedict_our/{name}"] for name in ("shape", "cam")],
        modern=[[f"codedict/{name}", f"codedict_our/{name}"] for name in ("shape", "pose", "cam")],
        reason="legacy copies the pose and shares shape and camera; modern shares all three, since nothing writes them",
        since="0.1.0",
    ),
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
