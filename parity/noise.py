"""The noise floor: the drift that is nobody's fault, measured on the reference.

The reference is run on inputs moved by one unit in the last place, a dozen times, and unmoved in fresh processes with
other threads and kernels (`parity/causes.py`); the floor is the largest drift seen. `isolated` replays one stage on its
recorded inputs; `chained` is a whole pass: inputs are moved at every stage on the way, so that noise accumulates as it
does in a run. Method and the choice of the factor c: docs/adr/0001-noise-floor.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from parity.comparison import Drift
from parity.discrete import compare_named, compare_stage
from parity.files import write_atomically
from parity.perturb import perturbed
from parity.stages import Stage

DRAWS = 12
C = 5.0
Replay = Callable[[str, dict[str, Tensor]], dict[str, Tensor]]
Assemble = Callable[[Stage, Mapping[str, Tensor]], dict[str, Tensor]]


@dataclass(frozen=True)
class Floor:
    """Largest figures of one tensor over the draws; `differing` counts flipped elements of exact tensors.

    margin: the largest deciding margin that noise flipped; None where nothing flipped or margins are not known.
    by: what made the largest relative L2: a cause of `parity/causes.py`, or "" for one-ULP draws.
    """

    rel_l2: float
    max_abs: float
    differing: int
    margin: float | None = None
    by: str = ""

    def joined(self, other: Floor) -> Floor:
        """The floor that covers both."""
        return Floor(
            max(self.rel_l2, other.rel_l2),
            max(self.max_abs, other.max_abs),
            max(self.differing, other.differing),
            max((margin for margin in (self.margin, other.margin) if margin is not None), default=None),
            self.by if self.rel_l2 >= other.rel_l2 else other.by,
        )


Floors = dict[str, Floor]


def widen(floors: Floors, name: str, drift: Drift, by: str = "") -> None:
    """Let `floors[name]` cover `drift` too; structural breaks (NaN on one side) make no floor."""
    if drift.structural:
        return
    seen = Floor(drift.rel_l2 or 0.0, drift.max_abs or 0.0, drift.differing, drift.margin, by)
    floors[name] = floors[name].joined(seen) if name in floors else seen


def isolated_drifts(
    replay: Replay, stage: str, inputs: Mapping[str, Tensor], draws: Iterable[int]
) -> Iterator[tuple[int, str, Drift]]:
    """Draw, `stage/name` and figures of each output: replays on perturbed `inputs` against one on `inputs` as given."""
    reference = replay(stage, dict(inputs))
    for draw in draws:
        found = replay(stage, perturbed(inputs, draw))
        for name in found:
            yield draw, f"{stage}/{name}", compare_stage(stage, reference, found, name)


def isolated_floor(replay: Replay, stage: str, inputs: Mapping[str, Tensor], draws: Iterable[int]) -> Floors:
    """The floor of each output of one stage under one-ULP draws."""
    floors: Floors = {}
    for _, name, drift in isolated_drifts(replay, stage, inputs, draws):
        widen(floors, name, drift)
    return floors


def chained_floor(
    replay: Replay, stages: Sequence[Stage], inputs_of: Assemble, recorded: Mapping[str, Tensor], draws: Iterable[int]
) -> Floors:
    """The floor of every tensor when noise enters at each stage of a whole pass.

    An update's parameters and gradients are not moved once more: its noise is that of the gradients it is given. Stages
    that read updated weights are left out: a replay knows only the initial ones.
    """
    floors: Floors = {}
    for draw in draws:
        world = dict(recorded)
        for index, stage in enumerate(stages):
            if stage.after_update:
                continue
            inputs = inputs_of(stage, world)
            values = replay(stage.name, inputs if stage.gradients else perturbed(inputs, 1000 * draw + index))
            world |= {f"{stage.name}/{name}": value for name, value in values.items()}
            for key in (f"{stage.name}/{name}" for name in values):
                if key in recorded:
                    widen(floors, key, compare_named(key, recorded, world))
    return floors


def write_floors(path: Path, floors: Mapping[str, Floors], evidence: Mapping[str, object]) -> None:
    """Store floors by mode with what they were measured on."""
    document = {
        "evidence": dict(evidence),
        "floors": {
            mode: {name: asdict(floor) for name, floor in sorted(part.items())} for mode, part in floors.items()
        },
    }
    write_atomically(path, json.dumps(document, indent=1).encode())


def read_floors(path: Path) -> tuple[dict[str, Floors], dict[str, object]]:
    """Floors by mode and their evidence.

    Raises:
        FileNotFoundError: none stored here.
    """
    document = json.loads(path.read_text())
    floors = {mode: {name: Floor(**floor) for name, floor in part.items()} for mode, part in document["floors"].items()}
    return floors, document["evidence"]
