"""THE contract between subjects: the ordered stages of a pipeline, what feeds them and what they yield.

Axes and shapes of every tensor: docs/architecture.md. An input is named by where the reference run recorded it, as
`stage/tensor`, or by `batch/<field>` for the batch itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from parity.batch import Batch

_ALL = "/*"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One named step of the pipeline.

    inputs: argument name of `Subject.replay` -> recorded tensor; `name/*` stands for every tensor below a name.
    gradients: the stage whose gradients this one applies; its inputs are assembled by `parity/updates.py`.
    draws: the stage consumes random numbers while dropout is on, so a replay is seeded first.
    isolated: whether it can be replayed on recorded inputs and held against the recorded outputs.
    after_update: reads weights that a later stage updates, so a chained difference is no cause of earlier ones.
    """

    name: str
    doc: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    unit: str = ""
    gradients: str = ""
    draws: bool = False
    isolated: bool = True
    after_update: bool = False


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """One of the lab's two forks, as the audit sees it.

    tree: its folder under legacy/.
    variants: name -> probability inside dropout; without dropout a step draws nothing, with it both sides draw alike.
    trained: legacy modules whose parameters are updated, by the stage that updates them.
    prefixed: that stage's keys begin with the module's name.
    """

    name: str
    tree: str
    variants: Mapping[str, float]
    stages: tuple[Stage, ...]
    trained: Mapping[str, tuple[str, ...]]
    prefixed: frozenset[str] = frozenset()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Stage names in order."""
        return tuple(stage.name for stage in self.stages)

    @cached_property
    def by_name(self) -> Mapping[str, Stage]:
        """Stage by name."""
        return {stage.name: stage for stage in self.stages}

    def select(self, wanted: Sequence[str]) -> tuple[str, ...]:
        """The names among `wanted` that this pipeline has, in pipeline order."""
        return tuple(name for name in self.names if name in wanted)


def batch_tensors(batch: Batch) -> dict[str, Tensor]:
    """The batch under the names that stage inputs use.

    `batch/centre` is the centre frame [1,3,H,W], `batch/face_mask` the detail stage's 0/1 mask [3,H,W].
    """
    fields = {f"batch/{name}": tensor for name, tensor in batch.tensors.items()}
    return fields | {"batch/centre": batch.image[1:2], "batch/face_mask": batch.face_mask_BHW}


def stage_inputs(stage: Stage, recorded: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The arguments of a replay of `stage`, taken from `recorded` (a reference trace's tensors plus the batch).

    Raises:
        KeyError: the reference did not record an input; the message names it.
    """
    found: dict[str, Tensor] = {}
    for argument, key in stage.inputs.items():
        if not key.endswith(_ALL):
            found[argument] = recorded[key].clone()
            continue
        below = {name: tensor for name, tensor in recorded.items() if name.startswith(key[:-1]) and "@" not in name}
        if not below:
            raise KeyError(key)
        head = argument.removesuffix("*")
        found |= {head + name.removeprefix(key[:-1]): tensor.clone() for name, tensor in below.items()}
    return found
