"""What the audit needs of anything it runs: the `Subject` protocol and the settings of a run.

Axes: T frames (3), H W raster rows and columns. Tensor names are `stage/tensor`, see `parity/stages.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from modern.assets import HeadAssets
from parity.batch import Batch
from parity.trace import Trace

StateDicts = Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How both subjects of one audit are built; equal setups must give equal results.

    weights: legacy module name (E_flame, BiViT, AUNet, AU_net, expression_net) -> legacy state dict.
    overrides: dotted keys of the legacy configuration, for example ``{"loss.focalAU": True}``.
    dropout: probability inside BiViT while training (legacy: 0.1); 0 makes a step free of random draws.
    """

    weights: StateDicts
    head: HeadAssets
    overrides: Mapping[str, Any] = field(default_factory=dict)
    dropout: float = 0.0
    device: str = "cpu"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one traced run does.

    steps: optimizer updates; step k's tensors after the first carry the suffix `@k`.
    term_gradients: also take the gradient of each loss term with respect to sequence/out (step 0 only).
    seed: every generator is seeded with it right before the first training step.
    """

    steps: int = 1
    term_gradients: bool = True
    seed: int = 0


class Subject(Protocol):
    """Something that can be run on a batch and replayed stage by stage."""

    name: str

    def trace(self, batch: Batch, plan: Plan) -> Trace:
        """Run the subject's own training steps on a fresh copy of `batch` and record every stage.

        A trace leaves the subject as it found it: weights and optimizer are restored afterwards.
        """
        ...

    def replay(self, stage: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run one stage on given inputs (names without the stage prefix); raises KeyError for an unknown stage."""
        ...
