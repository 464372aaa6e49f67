"""From what the runs left to one word per cell: bitwise, within noise, or not, where it begins, and what it does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from parity.comparison import Drift
from parity.noise import C, Floors, widen
from parity.reproduce.cell import DATA, FLOOR, KERNELS, SHIPPED, UPDATE, Cell
from parity.reproduce.evidence import NOTE as EVIDENCE
from parity.reproduce.exercised import unexercised
from parity.reproduce.operations import NOTE, first_moved
from parity.reproduce.place import COMPANY
from parity.reproduce.words import RAN, Word
from parity.verdict import excess

Result = Mapping[str, Any]
Drifts = Mapping[str, Mapping[str, Any]]
QUANTITIES = {
    "codes": ("codes/",),
    "uv_z": ("generator/uv_z",),
    "loss": ("losses/all_loss",),
    "gradients": ("gradients/", "g_gradients/"),
    "weights": ("weights/",),
}


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One cell of the matrix, judged.

    first: the first tensor that is not the same bytes, `stage/name@step`; stage: its stage; step: its update.
    over_floor: largest figure in units of the noise floor; None where there is none. effects: quantity -> relative L2
    distance from the reference at the last step that has it; distances: the same in the quantity's own units.
    losses: term -> relative difference, last step. cost: time of a step with the control (the reference) over the time
    without (this cell). operation: first operation that moved. tensors: compared; moved: not bitwise.
    """

    id: str
    title: str
    group: str
    word: Word
    reason: str
    against: str
    cause: str = ""
    control: str = ""
    stage: str = ""
    first: str = ""
    step: int | None = None
    over_floor: float | None = None
    tensors: int = 0
    moved: int = 0
    effects: dict[str, float] = field(default_factory=dict)
    distances: dict[str, float] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)
    cost: float | None = None
    seconds: float | None = None
    operation: dict[str, Any] | None = None

    @property
    def shipped_again(self) -> bool:
        """Whether this is a further run as shipped, held against the first one."""
        return self.id.startswith(f"{SHIPPED} ") and self.word in RAN


_COSTLY = (DATA, KERNELS, UPDATE)  # seeding costs nothing, a batch is another amount of work


def noise_floors(cells: Iterable[Cell], found: Mapping[str, Result]) -> dict[str, Floors]:
    """Reference -> tensor, or `weights@STEP` -> the largest figures of the one-ULP runs against it."""
    floors: dict[str, Floors] = {}
    for cell in cells:
        if cell.group == FLOOR and cell.id in found and not _still(found[cell.id]):
            floor = floors.setdefault(cell.against, {})
            for key, drift in _figures(found[cell.id]["drifts"]).items():
                widen(floor, key, drift)
    return floors


def _still(result: Result) -> bool:
    """Whether a one-ULP run moved nothing because the subject never looks: that is no floor, not one of zero."""
    return "ulp" not in result["notes"].get(EVIDENCE, {}).get("read", ["ulp"])


def judge(cell: Cell, result: Result | None, reference: Result | None, floor: Floors) -> Judged:
    """The judgement of one cell; `result` is None where nothing ran."""
    known: dict[str, Any] = {"id": cell.id, "title": cell.title, "group": cell.group, "against": cell.against}
    known |= {"cause": cell.cause, "control": cell.control}
    if result is None:
        return Judged(**known, word=Word.NOT_RUN, reason=cell.why_not or "not asked for")
    if error := result["notes"].get("error"):
        return Judged(**known, word=Word.REFUSED if cell.refusal else Word.ERROR, reason=str(error))
    seconds = _per_step(result)
    if not cell.against:
        return Judged(**known, word=Word.NOT_RUN, reason="reference of other rows", seconds=seconds)
    drifts: Drifts = result["drifts"]
    if not drifts or reference is None:
        return Judged(**known, word=Word.ERROR, reason="nothing could be compared with the reference")
    moved = [key for key, drift in drifts.items() if not drift["bitwise"]]
    over, worst = _over_floor(drifts, floor) if moved else (None, "")
    word, reason = _word(drifts, moved, over, worst, floor)
    if word is Word.BITWISE and (unreached := unexercised(result, reference)):
        word, reason = Word.NOT_EXERCISED, unreached
    before, found = _per_step(reference), distances(drifts) if moved else {}
    return Judged(
        **known,
        word=word,
        reason=reason,
        first=moved[0] if moved else "",
        stage=moved[0].split("/")[0] if moved else "",
        step=int(moved[0].rsplit("@", 1)[1]) if moved else None,
        over_floor=over,
        tensors=len(drifts),
        moved=len(moved),
        effects={name: distance / norm if norm else distance for name, (distance, norm) in found.items()},
        distances={name: distance for name, (distance, _) in found.items()},
        losses=_losses(drifts) if moved else {},
        cost=before / seconds if before and seconds and cell.group in _COSTLY else None,
        seconds=seconds,
        operation=_operation(cell, result, reference),
    )


def _word(drifts: Drifts, moved: list[str], over: float | None, worst: str, floor: Floors) -> tuple[Word, str]:
    if not moved:
        return Word.BITWISE, f"all {len(drifts)} tensors have the same bytes"
    if broken := [key for key in moved if drifts[key]["structural"]]:
        return Word.MOVED, f"{broken[0]}: {drifts[broken[0]]['structural']}"
    if not floor:
        return Word.MOVED, "differs; no noise floor was measured to hold it against"
    if over is not None and over <= C:
        return Word.NOISE, f"at most {over:.2g} x the noise floor of this run, allowed {C:g}"
    if over is None or over == float("inf"):
        return Word.MOVED, f"{worst}: no one-ULP run moved it"
    return Word.MOVED, f"{worst}: {over:.2g} x the noise floor, allowed {C:g}"


def _over_floor(drifts: Drifts, floor: Floors) -> tuple[float | None, str]:
    """The largest figure over its floor, as verdicts see it, and whose; what no one-ULP run had has no room at all."""
    if not floor:
        return None, ""
    moved = {key: excess(drift, floor.get(key)) for key, drift in _figures(drifts).items() if not drift.bitwise}
    worst = max(moved, key=moved.__getitem__)
    return moved[worst], worst


def _figures(drifts: Drifts) -> dict[str, Drift]:
    """What is held against the floor: each tensor, but the weights after one update together, as one long vector.

    Adam moves an element whose gradient is about as small as its noise by a large part of the learning rate; which one
    it is, no number of one-ULP runs foresees.
    """
    found = {key: _drift(figures) for key, figures in drifts.items()}
    weights = [key for key in found if key.startswith(QUANTITIES["weights"]) and drifts[key]["norm"] is not None]
    for step in dict.fromkeys(map(_step, weights)):
        keys = [key for key in weights if _step(key) == step]
        parts, (distance, norm) = [found.pop(key) for key in keys], _distance([drifts[key] for key in keys])
        found[f"weights@{step}"] = replace(
            parts[0],
            structural=next((part.structural for part in parts if part.structural), ""),
            bitwise=all(part.bitwise for part in parts),
            count=sum(part.count for part in parts),
            differing=sum(part.differing for part in parts),
            max_abs=max(part.max_abs or 0.0 for part in parts),
            rel_l2=distance / norm if norm else distance,
            scaled_ulp=max(part.scaled_ulp or 0.0 for part in parts),
        )
    return found


def _drift(figures: Mapping[str, Any]) -> Drift:
    """The comparison that a result keeps the figures of (`parity.reproduce.watch`)."""
    kept = {field.name: figures[field.name] for field in fields(Drift) if field.name in figures}
    return Drift(shape=(), **kept)


def distances(drifts: Drifts) -> dict[str, tuple[float, float]]:
    """Quantity -> L2 distance over all its tensors at the last step that has it, and the reference's norm."""
    found = {}
    for quantity, prefixes in QUANTITIES.items():
        keys = [key for key in drifts if key.startswith(prefixes) and drifts[key]["norm"] is not None]
        last = max((_step(key) for key in keys), default=None)
        parts = [drifts[key] for key in keys if _step(key) == last]
        if parts and not any(part["structural"] for part in parts):
            found[quantity] = _distance(parts)
    return found


def _distance(parts: Iterable[Mapping[str, Any]]) -> tuple[float, float]:
    """L2 distance and norm of several tensors together; one of norm 0 reports its distance itself."""
    parts = list(parts)
    moved = sum(((part["rel_l2"] or 0.0) * (part["norm"] or 1.0)) ** 2 for part in parts)
    return moved**0.5, sum(part["norm"] ** 2 for part in parts) ** 0.5


def _losses(drifts: Drifts) -> dict[str, float]:
    keys = [key for key in drifts if key.startswith(("losses/", "d_losses/", "g_losses/")) and "unweighted" not in key]
    last = max((_step(key) for key in keys), default=0)
    return {
        key.split("/", 1)[1].split("@")[0]: float(drifts[key]["rel_l2"] or 0.0) for key in keys if _step(key) == last
    }


def _operation(cell: Cell, result: Result, reference: Result) -> dict[str, Any] | None:
    before, after = reference["notes"].get(NOTE), result["notes"].get(NOTE)
    if not before or not after:
        return None
    share = len(COMPANY.get(cell.runs[-1].company, [0]))
    moved = first_moved(before, after, share)
    return {"compared": min(len(before), len(after)), "moved": vars(moved) if moved else None}


def _step(key: str) -> int:
    return int(key.rsplit("@", 1)[1])


def _per_step(result: Result) -> float | None:
    """Seconds of a step: the quickest, the first one carries what is done once."""
    return min(result["seconds"]) if result["seconds"] else None
