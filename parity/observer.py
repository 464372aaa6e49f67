"""No observer effect: what a run leaves behind with the audit's taps and without is the same bytes.

Each side's traced run is held against its own training loop run bare (`parity/bare.py`), in every audit. A difference
has two possible causes, the taps or a side that does not repeat itself; a second traced run tells them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from parity.aftermath import unequal
from parity.comparison import Drift
from parity.structure import StructuralFinding
from parity.verdict import Verdict
from parity.wording import listed

PREFIX = "observer"
RETURNED = "returned losses and outputs"
LEFTOVERS = "hooks, patches and switches"
# Kinds of `parity/aftermath.py`, in the order in which they are told.
KINDS = ("parameters", "gradients", "optimizer state", "buffers", "modes", "random generators")
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What the bare run of one side showed.

    traced, bare: digests of what either run left, by `kind/name`.
    returned: drift of every contract tensor that the bare loop gives out, against the traced run.
    leftovers: by run, places still hooked or patched afterwards.
    """

    traced: Mapping[str, str]
    bare: Mapping[str, str]
    returned: Mapping[str, Drift]
    leftovers: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def same(self) -> bool:
        """Whether both runs gave out and left the same bytes."""
        return self.traced == self.bare and all(drift.bitwise for drift in self.returned.values())


def findings(subject: str, observation: Observation, *, repeats: bool | None = None) -> list[StructuralFinding]:
    """One finding per kind of state.

    Args:
        subject: whose run it was.
        observation: of that run.
        repeats: whether two traced runs were the same bytes; None if that was not tried.
    """
    moved = [name for name, drift in observation.returned.items() if not drift.bitwise]
    found = [_finding(subject, RETURNED, len(observation.returned), moved, repeats)]
    differing = unequal(observation.traced, observation.bare)
    for kind in KINDS:
        names = {name for name in observation.traced.keys() | observation.bare.keys() if name.startswith(f"{kind}/")}
        found.append(_finding(subject, kind, len(names), [name for name in differing if name in names], repeats))
    return [*found, _leftovers(subject, observation.leftovers)]


def _finding(subject: str, kind: str, count: int, differing: Sequence[str], repeats: bool | None) -> StructuralFinding:
    name = f"{PREFIX}, {subject}: {kind}"
    if not count:
        detail = "nothing of this kind in either run"
        return StructuralFinding(name=name, verdict=Verdict.NOT_EXERCISED, detail=detail)
    if not differing:
        detail = f"{count} with the same bytes, whether the audit's taps are on or off"
        return StructuralFinding(name=name, verdict=Verdict.IDENTICAL, detail=detail)
    seen = f"{len(differing)} of {count} differ between the traced and the bare run: {listed(differing, _SHOWN)}"
    if repeats is False:
        detail = f"{seen}; two traced runs differ as well, so this side does not repeat itself here"
        return StructuralFinding(name=name, verdict=Verdict.UNSTABLE, detail=detail)
    cause = "two traced runs agree, so the taps change the run" if repeats else "no second traced run was made"
    return StructuralFinding(name=name, verdict=Verdict.DRIFT, detail=f"{seen}; {cause}")


def _leftovers(subject: str, leftovers: Mapping[str, Sequence[str]]) -> StructuralFinding:
    name = f"{PREFIX}, {subject}: {LEFTOVERS}"
    places = [f"{place} ({run})" for run, found in leftovers.items() for place in found]
    if not leftovers:
        detail = "nothing was looked at"
        return StructuralFinding(name=name, verdict=Verdict.NOT_EXERCISED, detail=detail)
    if places:
        detail = f"{len(places)} left behind: {listed(places, _SHOWN)}"
        return StructuralFinding(name=name, verdict=Verdict.DRIFT, detail=detail)
    detail = f"as before, after {' and '.join(leftovers)}"
    return StructuralFinding(name=name, verdict=Verdict.IDENTICAL, detail=detail)
