"""Every setting of the detail stage, typed; the defaults are the detail fork's own (detail spec 5, 7).

`modern/legacy_keys_detail.py` relates them to the keys of a legacy yml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from modern.config_common import DataConfig, Pipeline, RunConfig, RunLengthConfig
from modern.legacy_keys import Key
from modern.legacy_keys_detail import DETAIL_KEYS


@dataclass(frozen=True, kw_only=True, slots=True)
class DetailModelConfig:
    """Files of the model.

    Attributes:
        head: compact .npz or folder of the original head files, see `modern.assets.load_head`.
        texture: which texture space a folder of head files brings: `BFM` (FLAME_albedo_from_BFM.npz) or `FLAME`
            (FLAME_texture.npz); a compact .npz holds one already.
        encoder_weights: file that holds the frozen `E_flame`.
        expression_weights: file that holds the frozen expression encoder (EMOCA's); None takes the expression of
            `E_flame`, which legacy never does.
        au_weights: OpenGraphAU second-stage checkpoint, for both action-unit networks.
        perceptual_weights: torchvision's VGG19, only for the MRF term.
        pretrained: folder written by `python -m modern import` to start from; None starts from fresh networks.
        max_displacement: metres; legacy reads and ignores it (defect D25).
    """

    head: Path = Path("data")
    texture: Literal["BFM", "FLAME"] = "BFM"
    encoder_weights: Path = Path("model.tar")
    expression_weights: Path | None = None
    au_weights: Path = Path("data/OpenGprahAU-ResNet50_second_stage.pth")
    perceptual_weights: Path = Path("data/vgg19-dcbb9e9d.pth")
    pretrained: Path | None = None
    max_displacement: float = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class DetailDataConfig(DataConfig):
    """Folders of one identity each, and how they are batched.

    Attributes:
        images: images of one identity in each item (legacy K); an update sees batch_size * images of them.
    """

    batch_size: int = 16
    workers: int = 2
    images: int = 1

    def __post_init__(self) -> None:
        if self.images < 1:
            raise ValueError(f"data.images is {self.images}, expected at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class DetailTrainConfig(RunLengthConfig):
    """Optimisers, length, and how often things are written (detail spec 5, 6).

    Attributes:
        lr_generator: Adam's step size for detail encoder and generator.
        lr_discriminator: the same for the discriminator.
        beta1: decay of Adam's first moment, both optimisers.
        beta2: decay of its second moment.
    """

    max_steps: int = 10**8
    lr_generator: float = 5e-6
    lr_discriminator: float = 1e-4
    beta1: float = 0.5
    beta2: float = 0.999

    def __post_init__(self) -> None:
        for name in ("lr_generator", "lr_discriminator"):
            if not getattr(self, name) > 0:
                raise ValueError(f"train.{name} is {getattr(self, name)}, expected a positive learning rate")


@dataclass(frozen=True, kw_only=True, slots=True)
class DetailLossConfig:
    """The weight of each term (detail spec 4.15).

    Attributes:
        photometric: textures within the visible face.
        displacement: size of the displacement.
        smoothness: of the shading.
        symmetry: of the displacement where it is not seen; 0 leaves the term out.
        action_unit: action-unit probabilities of photograph and result. Legacy has no key for it: its AU_feature has
            no effect.
        mrf: patch statistics of the texture, as a share of `photometric`; legacy disabled the term (0.05 there).
    """

    photometric: float = 2.0
    displacement: float = 0.005
    smoothness: float = 0.005
    symmetry: float = 0.005
    action_unit: float = 1.0
    mrf: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class DetailConfig(RunConfig):
    """All settings of a run of the detail stage.

    Attributes:
        pipeline: tells a written configuration from one of the coarse stage.
    """

    pipeline_name: ClassVar[Pipeline] = "detail"
    legacy_keys: ClassVar[Mapping[str, Key]] = DETAIL_KEYS

    pipeline: Literal["detail"] = "detail"
    model: DetailModelConfig = field(default_factory=DetailModelConfig)
    data: DetailDataConfig = field(default_factory=DetailDataConfig)
    train: DetailTrainConfig = field(default_factory=DetailTrainConfig)
    loss: DetailLossConfig = field(default_factory=DetailLossConfig)
