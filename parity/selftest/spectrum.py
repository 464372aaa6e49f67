"""Which functions of modern each stage's replay runs: what a change can reach, and who comes into question for a drift.

Execution is deterministic, so a change inside a function body makes a difference only where that function is called.
A stage that never calls it, neither while the subject is built nor in its replay, yields the same bytes as before: it
need not be replayed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from parity import worker
from parity.files import write_atomically
from parity.selftest.mutation import Spot
from parity.selftest.planting import planted
from parity.trace import load_trace
from parity.worker import RunSpec

BUILD = "build"


@dataclass(frozen=True)
class Spectrum:
    """Stage, or `BUILD`, -> functions of modern that ran."""

    ran: Mapping[str, frozenset[Spot]]

    def reach(self, changed: Iterable[Spot], stages: Iterable[str]) -> list[str]:
        """Those of `stages` that a change of these functions can reach."""
        changed = set(changed)
        everywhere = any(not spot.function for spot in changed) or bool(changed & self.ran[BUILD])
        return [stage for stage in stages if everywhere or changed & self.ran.get(stage, frozenset())]

    def suspects(self, drifting: str, agreeing: Iterable[str]) -> list[Spot]:
        """Functions that the first drifting stage ran and no agreeing stage; all that it ran, if there are none."""
        ran = self.ran.get(drifting, frozenset())
        cleared: set[Spot] = set().union(*(self.ran.get(stage, frozenset()) for stage in agreeing))
        return sorted(ran - cleared or ran)


def record(spec: RunSpec, reference: Path) -> Spectrum:
    """Replay every stage of modern once and note what runs."""
    ran: dict[str, frozenset[Spot]] = {}
    world = worker.recorded_world(spec, load_trace(reference))
    with planted(()) as copy:  # imported anew, so that what runs on import is noted too
        with _noting(copy) as found:
            worker._subject("modern", spec)
        ran[BUILD] = frozenset(found)
        for stage in worker.pipeline_of(spec).stages:
            if stage.inputs or stage.gradients:
                inputs = worker.inputs_of(spec, stage, world)
                with _noting(copy) as found:
                    worker.replay(spec, "modern", stage.name, inputs)
                ran[stage.name] = frozenset(found)
    return Spectrum(ran)


def write(spectrum: Spectrum, path: Path) -> None:
    """Store atomically as JSON."""
    document = {stage: sorted([spot.file, spot.function] for spot in spots) for stage, spots in spectrum.ran.items()}
    write_atomically(path, json.dumps(document).encode())


def read(path: Path) -> Spectrum:
    """What `write` stored."""
    document = json.loads(path.read_text())
    return Spectrum({stage: frozenset(Spot(*pair) for pair in pairs) for stage, pairs in document.items()})


@contextmanager
def _noting(copy: Path) -> Iterator[set[Spot]]:
    root, found = f"{copy}/", set[Spot]()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(root):
            found.add(Spot(frame.f_code.co_filename.removeprefix(root), _owner(frame.f_code.co_qualname)))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(before)


def _owner(qualified: str) -> str:
    """The function that holds a lambda or comprehension; "" for what runs on import."""
    parts = qualified.split(".")
    while parts and parts[-1].startswith("<"):
        parts.pop()
    return ".".join(parts)
