"""What the audit needs of anything it runs: the `Subject` protocol and the settings of a run.

Axes: T frames (3), H W raster rows and columns. Tensor names are `stage/tensor`, see `parity/stages.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from modern.assets import HeadAssets
from parity.bare import BareLoop
from parity.batch import Batch
from parity.trace import Trace

StateDicts = Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How both subjects of one audit are built; equal setups must give equal results.

    weights: legacy module name (E_flame, BiViT, AUNet, AU_net, expression_net) -> legacy state dict.
    overrides: dotted keys of the legacy configuration, for example ``{"loss.focalAU": True}``.
    dropout: probability inside BiViT while training (legacy: 0.1); 0 makes a step free of random draws.
    legacy_root: a lab's own checkout that legacy is imported from; empty for the reconstruction. Modern ignores it.
    files: a folder with the files that legacy reads at start-up, of these weights and head; None writes them anew.
    """

    weights: StateDicts
    head: HeadAssets
    overrides: Mapping[str, Any] = field(default_factory=dict)
    dropout: float = 0.0
    device: str = "cpu"
    legacy_root: str = ""
    files: Path | None = None


@dataclass(frozen=True, kw_only=True)
class SyntheticSurface:
    """Stands in for FLAME, its texture and the renderer where a recording has no head; S = 256 texels, H = W = 224.

    uv_*: [B,3,S,S] position and normal of each texel, in model space and projected (z + 10).
    uv_face_eye_mask: [1,1,S,S]. fixed_uv_dis: [S,S] metres. albedo: [B,3,S,S]. grid: [B,H,W,2].
    """

    uv_vertices: Tensor
    uv_normals: Tensor
    uv_projected: Tensor
    uv_projected_normals: Tensor
    uv_face_eye_mask: Tensor
    fixed_uv_dis: Tensor
    albedo: Tensor
    grid: Tensor


@dataclass(frozen=True, kw_only=True)
class DetailSetup:
    """How both subjects of a detail audit are built.

    weights: E_flame, E_detail, D_detail, D, AUNet, ACG (and VGG19 for the disabled MRF term) -> legacy state dict.
    head: the head, None only where `surface` replaces it.
    expression_B50: what the EMOCA stand-in returns for the batch.
    parameters_B236: if given, replaces the output of the encoder, which still runs.
    surface: if given, replaces FLAME, texture and renderer.
    overrides: dotted keys of the legacy configuration, for example ``{"loss.reg_sym": 5e-6}``.
    legacy_root: as in `Setup`.
    image_size: rows = columns of the pictures; legacy learns of another size than 224 by an override.
    files: as of `Setup`.
    """

    weights: StateDicts
    head: HeadAssets | None
    expression_B50: Tensor
    parameters_B236: Tensor | None = None
    surface: SyntheticSurface | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    legacy_root: str = ""
    image_size: int = 224
    files: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one traced run does.

    steps: optimizer updates; step k's tensors after the first carry the suffix `@k`.
    term_gradients: also take the gradient of each loss term with respect to sequence/out (step 0 only).
    digests: also digest all that the run leaves behind, see `parity/aftermath.py`.
    seed: every generator is seeded with it right before the first training step.
    """

    steps: int = 1
    term_gradients: bool = True
    digests: bool = True
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


class Observable(Subject, Protocol):
    """A subject that can also run its own training loop without taps."""

    def bare(self) -> AbstractContextManager[BareLoop]:
        """The subject's own training loop without taps; afterwards the subject is as it was found."""
        ...

    def quick(self, pixels: int) -> AbstractContextManager[None]:
        """While inside, steps are cheap: small pictures (`pixels` a side) or equal meshes rasterised once."""
        ...

    def touched(self) -> list[object]:
        """Networks and objects that taps may hook or patch."""
        ...
