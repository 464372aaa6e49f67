"""How far harmless changes take the reference, in units of its stored noise floor: the evidence behind the factor c.

Stages of legacy are replayed in fresh processes on recorded inputs, with one thing changed that nobody would call a
bug, and held against the recorded outputs. A figure above c times the floor is a false alarm: a comparison that would
have cried wolf.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from parity.comparison import Drift
from parity.files import write_atomically
from parity.noise import C, Floors
from parity.verdict import excess

ULP = "one ULP, fresh draw"


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """One comparison above c times its floor."""

    cause: str
    tensor: str
    ratio: float


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What the harmless changes showed.

    by_stage: stage -> cause -> largest ratio of a figure to its floor, as verdicts see it (verdict.excess).
    comparisons, moved: by cause, how many tensors were compared and how many were not the same bytes.
    alarms: everything above c. beyond: share of fresh one-ULP draws above the floor itself (exchangeable draws exceed
    the largest of twelve in 1 of 13 cases). draws: of those, per stage.
    """

    variant: str
    c: float
    by_stage: dict[str, dict[str, float]]
    comparisons: dict[str, int]
    moved: dict[str, int]
    alarms: list[Alarm]
    beyond: float | None
    draws: int

    @property
    def rate(self) -> float:
        """False alarms per comparison that was not bitwise, over all causes."""
        moved = sum(self.moved.values())
        return len(self.alarms) / moved if moved else 0.0

    @property
    def largest(self) -> dict[str, float]:
        """Cause -> largest ratio anywhere."""
        causes = dict.fromkeys(cause for parts in self.by_stage.values() for cause in parts)
        return {cause: max(parts.get(cause, 0.0) for parts in self.by_stage.values()) for cause in causes}


def calibrate(
    variant: str,
    drifts: Mapping[str, Mapping[str, Drift]],
    floors: Floors,
    fresh: Iterable[Mapping[str, Drift]] = (),
    c: float = C,
) -> Calibration:
    """Hold drifts (cause -> tensor -> figures) and fresh one-ULP draws (tensor -> figures) against stored floors."""
    draws = list(fresh)
    found: dict[str, dict[str, float]] = {
        cause: {key: excess(drift, floors[_name(key)]) for key, drift in parts.items() if _name(key) in floors}
        for cause, parts in drifts.items()
    }
    moved = {cause: sum(value > 0 for value in parts.values()) for cause, parts in found.items()}
    again = [(key, excess(drift, floors[key])) for part in draws for key, drift in part.items() if key in floors]
    if again:
        found[ULP] = {}
        for key, value in again:
            found[ULP][key] = max(found[ULP].get(key, 0.0), value)
        moved[ULP] = sum(value > 0 for _, value in again)
    by_stage: dict[str, dict[str, float]] = {}
    for cause, parts in found.items():
        for key, value in parts.items():
            stage = by_stage.setdefault(key.split("/")[0], {})
            stage[cause] = max(stage.get(cause, 0.0), value)
    return Calibration(
        variant=variant,
        c=c,
        by_stage=by_stage,
        comparisons={cause: len(parts) for cause, parts in found.items()} | ({ULP: len(again)} if again else {}),
        moved=moved,
        alarms=[
            Alarm(cause=cause, tensor=key, ratio=value)
            for cause, parts in found.items()
            for key, value in parts.items()
            if value > c
        ],
        beyond=sum(value > 1 for _, value in again) / len(again) if again else None,
        draws=len(draws),
    )


def _name(key: str) -> str:
    return key.partition("@")[0]


def write_calibration(path: Path, found: Iterable[Calibration], evidence: Mapping[str, object]) -> None:
    """Store calibrations with what they were measured on; infinite ratios as the string "inf"."""
    variants = {}
    for one in found:
        variants[one.variant] = asdict(one) | {"rate": one.rate, "largest": one.largest}
    text = json.dumps({"evidence": dict(evidence), "variants": variants}, indent=1)
    write_atomically(path, text.replace("Infinity", '"inf"').encode())
