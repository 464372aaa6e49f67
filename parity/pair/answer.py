"""The answer of a pair's audit in words: where the candidate departs, and what is to blame for that."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from parity.noise import C
from parity.ops import Call
from parity.pair.audit import PairAudit
from parity.pair.lockstep import SIDES
from parity.pair.watch import Cause, Entry
from parity.schema import Finding, Row
from parity.verdict import Verdict, excess
from parity.wording import listed

_PHASES = ("output", "buffers", "loss", "gradient of", "gradients", "update")
_NEVER_ROUNDING = (Cause.WEIGHT, Cause.ARGUMENT, Cause.RANDOM)
_MOVES = frozenset({"clone", "copy", "_unsafe_view", "cat", "_to_copy", "zeros", "scalar_tensor"})  # compute nothing
_SHOWN = 3
_BACKWARD = 1 + _PHASES.index("gradient of")


def phase(key: str) -> int:
    """When a step computes "stage/tensor": forward stages, output, buffers, loss, backward, gradients, update."""
    stage, _, tensor = key.partition("/")
    if tensor.startswith("gradient of ") and stage != "update":
        return _BACKWARD
    return 1 + _PHASES.index(stage) if stage in _PHASES else 0


def answer(audit: PairAudit, rows: Sequence[Row], findings: Sequence[Finding], culprit: Row | None) -> str:
    """Yes or no, where, and the operation or setting to blame."""
    same = sum(row.verdict is Verdict.IDENTICAL for row in rows)
    if broken := decisive_structure(audit, culprit):
        where = f"; the candidate departs at {culprit.stage} ({culprit.tensor}) too" if culprit else ""
        optimizers = _optimizers(audit) if audit.settings and audit.gradients_agree else ""
        backward = min(phase(key) for key in audit.ran.unpaired) >= _BACKWARD
        parts = (f"No: {broken}{where}.", optimizers, cut(audit) if backward else "")
        return " ".join(filter(None, parts))
    if culprit:
        where = f"at {culprit.stage} ({culprit.tensor})"
        return f"No: the candidate departs from the reference {where}. {to_blame(audit, culprit)}".rstrip()
    others = [finding.name for finding in findings if finding.verdict is Verdict.DRIFT]
    if others:
        return f"No: the numbers agree, but the structure differs ({'; '.join(others)})."
    doubts = Counter(row.verdict for row in rows if row.verdict in (Verdict.UNSTABLE, Verdict.MISSING, Verdict.ERROR))
    if doubts:
        counts = ", ".join(f"{count} {word}" for word, count in doubts.items())
        return f"Cannot tell: {counts} among {len(rows)} comparisons. {to_blame(audit, None)}".rstrip()
    if same == len(rows):
        text = f"Yes: the candidate gives the same bytes as the reference in all {same} comparisons."
    else:
        text = f"Yes, up to rounding: {same} of {len(rows)} comparisons are the same bytes, the rest within the noise."
    return f"{text} {one_sided(audit, backward=False)}".rstrip()


def decisive_structure(audit: PairAudit, culprit: Row | None) -> str:
    """What one side only yields, if nothing that a step computes before it drifts; "" if nothing."""
    first = min((phase(key) for key in audit.ran.unpaired), default=math.inf)
    if culprit and (culprit.stage in ("weights", "operations") or phase(f"{culprit.stage}/{culprit.tensor}") < first):
        return ""
    early = [key for key in audit.ran.unpaired if phase(key) == first]
    found = [[key for key in early if audit.ran.unpaired[key] == place] for place in range(2)]
    return "; ".join(
        f"only the {name} has {listed(keys, _SHOWN)}" for name, keys in zip(SIDES, found, strict=True) if keys
    )


def to_blame(audit: PairAudit, culprit: Row | None) -> str:
    """The operation or optimizer setting that a drift at `culprit` comes from, if one stands out, in sentences."""
    if culprit and culprit.stage == "update" and audit.gradients_agree:
        return _optimizers(audit)
    backward = culprit is not None and phase(f"{culprit.stage}/{culprit.tensor}") >= _BACKWARD
    for name, keys in audit.untied.items():
        if culprit and backward and culprit.tensor in keys:
            return f"{name} of the reference is several weights of the candidate, not tied: {', '.join(keys)}."
    stops, lost = (cut(audit), lost_gradients(audit)) if backward else ("", "")
    if entry := standing_out(audit, culprit):
        told = stops or entry.cause in _NEVER_ROUNDING
        own = "" if told else one_sided(audit, backward=entry.candidate.backward, until=entry)
        return " ".join(filter(None, (stops, lost, first_to_depart(audit, entry), own)))
    if stops or lost:
        return " ".join(filter(None, (stops, lost)))
    if culprit and culprit.stage == "weights":
        return ""
    own = one_sided(audit, backward=backward)
    departing = next((e for e in audit.ran.entries if _born(e) and (culprit is None or _can_explain(culprit, e))), None)
    if departing is None:
        return own
    weak = f"the first one that is not the same bytes is {blame(departing)}, which may be rounding"
    return f"No single operation stands out; {weak}. {own}".rstrip()


def first_to_depart(audit: PairAudit, entry: Entry) -> str:
    """The operation that stands out, with its place; less is claimed where pairs are aligned and it was fed otherwise.

    Between operations of one kind and shape that are aligned lie others without partner, and these may be to blame.
    """
    place = f" at {Path(entry.candidate.source).name}" if entry.candidate.source else ""
    if audit.ran.in_order or _differs_itself(entry) or entry.cause is Cause.BORN:
        return f"First to depart: {blame(entry)}{place}."
    return (
        f"First aligned pair that differs: {blame(entry)}{place}; it is to blame, or one of the operations without "
        "partner before it."
    )


def lost_gradients(audit: PairAudit) -> str:
    """Which weights have a gradient on one side only, in a sentence; "" if all are alike."""
    found = [[key for key, side in audit.ran.unpaired.items() if side == place] for place in range(2)]
    own = [[key.partition("/")[2] for key in keys if key.startswith("gradients/")] for keys in found]
    return " ".join(
        f"Only the {name} has a gradient of {listed(keys, _SHOWN)}."
        for name, keys in zip(SIDES, own, strict=True)
        if keys
    )


def cut(audit: PairAudit) -> str:
    """Where a gradient stops on one side, in a sentence; "" if it flows alike."""
    if audit.ran.cut is None:
        return ""
    side, call = audit.ran.cut.side, audit.ran.cut.call
    where = f"input {audit.ran.cut.place} of {call.op}{f' in {call.module}' if call.module else ''} ({call.source})"
    return (
        f"The gradient stops on the {SIDES[side]}'s side only: {where} carries none there, which detach, no_grad, "
        "requires_grad or a custom gradient may have done."
    )


def standing_out(audit: PairAudit, culprit: Row | None) -> Entry | None:
    """The first operation of the culprit's part of the step that is beyond its own noise floor; else None.

    Without any floors (no draws) that is the first one whose result is not the same bytes. Forward operations cannot
    explain a gradient where all stages and outputs agree: another algorithm has other intermediate values.
    """
    if culprit is None:
        return next((entry for entry in audit.ran.entries if not audit.draws and _born(entry)), None)
    key = f"{culprit.stage}/{culprit.tensor}"
    entries = [entry for entry in audit.ran.entries if entry.cause is not None]
    if culprit.stage == "weights":
        return next((entry for entry in entries if entry.cause is Cause.WEIGHT), None)
    if culprit.stage != "operations":
        backward = phase(key) >= _BACKWARD
        entries = [entry for entry in entries if entry.candidate.backward is backward and _can_explain(culprit, entry)]
    beyond = next((entry for entry in entries if _excess(audit, entry) > C), None)
    # whatever can explain buffers has other arguments, whose effect is not in its output
    told = culprit.stage == "buffers"
    return beyond or next((entry for entry in entries if told or entry.cause in _NEVER_ROUNDING), None)


def _can_explain(culprit: Row, entry: Entry) -> bool:
    """Where outputs agree, no value of the forward pass explains buffers, and none inside a module the loss."""
    if culprit.stage not in ("buffers", "loss"):
        return True
    return _differs_itself(entry) or (culprit.stage == "loss" and not entry.candidate.module)


def _differs_itself(entry: Entry) -> bool:
    """Whether a weight, an argument or a draw differs, whatever the operation is fed."""
    return entry.cause in _NEVER_ROUNDING or (entry.cause is Cause.INHERITED and bool(entry.detail))


def blame(entry: Entry) -> str:
    """An operation that departs: what and why, in a few words."""
    cause = str(entry.cause)
    if entry.cause is Cause.INHERITED:
        cause = "differs besides what it is fed" if entry.detail else "first beyond its noise"
    detail = f" ({entry.detail})" if entry.detail else ""
    direction = ", backward" if entry.candidate.backward else ""
    where = f" in {entry.candidate.module}" if entry.candidate.module else ""
    return f"{entry.candidate.op}{where}{direction}: {cause}{detail}"


def one_sided(audit: PairAudit, *, backward: bool, until: Entry | None = None) -> str:
    """A sentence on what a side runs more often than the other, "" if nothing; copies and reshapes are not counted.

    Kinds that the other side never runs come first. until: only what runs before this pair of operations, the nearest
    first, because what runs later is not to blame for it.
    """
    calls = [_calls(audit, side, backward, until) for side in range(2)]
    kinds = [Counter(map(_kind, side)) for side in calls]
    said = []
    for side in (1, 0):
        surplus = kinds[side] - kinds[1 - side]
        if not surplus:
            continue
        unpaired = {id(call) for call in audit.ran.alone[side]}
        alone = [call for call in calls[side] if id(call) in unpaired][:: -1 if until else 1]
        order = list(dict.fromkeys(map(_kind, alone)))
        named = sorted(surplus, key=lambda kind: (kind in kinds[1 - side], order.index(kind) if kind in order else 0))
        texts = [_text(kind, surplus[kind], alone) for kind in named]
        total = surplus.total()
        noun = f"{total} operation{'s' * (total > 1)}"
        said.append(f"the {SIDES[side]} runs {noun} that the {SIDES[1 - side]} does not: {listed(texts, _SHOWN)}")
    where = ("in the backward pass " if backward else "") + ("before that, " if until else "")
    return f"Note: {where}{'; '.join(said)}." if said else ""


def _text(kind: str, count: int, alone: Sequence[Call]) -> str:
    source = next((call.source for call in alone if _kind(call) == kind), "")
    times = f"{count} x " if count > 1 else ""
    return f"{times}aten.{kind}" + (f" at {Path(source).name}" if source else "")


def _calls(audit: PairAudit, side: int, backward: bool, until: Entry | None) -> list[Call]:
    paired = [(entry.reference, entry.candidate)[side] for entry in audit.ran.entries]
    last = (until.reference, until.candidate)[side].index if until else math.inf
    calls = sorted((*paired, *audit.ran.alone[side]), key=lambda call: call.index)
    return [call for call in calls if call.backward is backward and call.index < last and _kind(call) not in _MOVES]


def _kind(call: Call) -> str:
    """aten.add_.Tensor -> add: in place or not, whatever the arguments."""
    parts = call.op.split(".")
    return parts[1].rstrip("_") if len(parts) > 1 else call.op


def _born(entry: Entry) -> bool:
    return entry.cause not in (None, Cause.INHERITED)


def _excess(audit: PairAudit, entry: Entry) -> float:
    """How far an operation is over its floor; nothing where there are draws but none of them met it."""
    keys = [audit.ran.floor_key(entry, place) for place in range(len(entry.drifts))]
    known = [(drift, audit.floors.get(key)) for drift, key in zip(entry.drifts, keys, strict=True)]
    return max((excess(drift, floor) for drift, floor in known if floor or not audit.draws), default=0.0)


def _optimizers(audit: PairAudit) -> str:
    if audit.settings:
        return f"The gradients agree; the optimizers do not: {'; '.join(audit.settings)}."
    changed = any("gradient after step hooks of " in key for key in audit.ran.values)
    hooks = "their step hooks (gradient clipping)" if changed else "what they do in a step"
    return f"The gradients agree, and so do the optimizers' class and settings; look at {hooks}."
