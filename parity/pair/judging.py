"""The verdict of one value of a pair: against its noise floor, and an update beyond it by itself (isolated.py)."""

from __future__ import annotations

from parity.comparison import Drift
from parity.noise import Floor
from parity.pair.audit import PairAudit
from parity.verdict import SAME, Verdict, judge


def judged_value(audit: PairAudit, key: str, drift: Drift) -> tuple[Verdict, str, Floor | None]:
    """Verdict, reason and the floor that the drift was held against, of one of `parity.pair.audit.keyed`."""
    floor = audit.floors.get(key)
    for side, keys in audit.unstable.items():
        if key in keys:
            return Verdict.UNSTABLE, f"the {side} does not repeat itself here", floor
    verdict, reason = judge(drift, floor)
    if verdict is Verdict.DRIFT and key.startswith("update/") and not drift.structural:
        return _by_itself(audit, key, reason, floor)
    return verdict, reason, floor


def _by_itself(audit: PairAudit, key: str, reason: str, floor: Floor | None) -> tuple[Verdict, str, Floor | None]:
    """An update beyond its floor: is it the optimizer, or are gradients that differ by rounding enough?

    The reference's own optimizer, given the candidate's gradients, shows how far those alone move the result; that is
    noise like any draw's, and belongs into the floor.
    """
    isolated = audit.isolated
    if isolated is None:
        return Verdict.DRIFT, reason, floor
    if key not in isolated.drifts:
        why = isolated.why_not or "it left no such value"
        return Verdict.DRIFT, f"{reason}; the step could not be made again on the candidate's gradients: {why}", floor
    verdict, found = judge(isolated.drifts[key], isolated.floors.get(key))
    if verdict not in SAME:
        return Verdict.DRIFT, f"{reason}; the same step on the same gradients differs as well: {found}", floor
    if not audit.gradients_agree:
        return Verdict.DRIFT, f"{reason}; inherited from the gradients: the same step on the same ones agrees", floor
    moved = isolated.inherited[key]
    seen = Floor(moved.rel_l2 or 0.0, moved.max_abs or 0.0, moved.differing, by="rounding of the gradients")
    draws = reason.partition(",")[0].replace("noise floor", "the floor of the draws")
    why = f"inherited from gradients that are rounding ({draws}); the same step on the same gradients agrees: {found}"
    return Verdict.ROUNDING, why, seen if floor is None else floor.joined(seen)
