"""Every setting of the coarse stage, typed; the defaults are the shipped run OnlyE2 (coarse spec 9).

`modern/legacy_keys.py` relates them to the keys of a legacy yml; `modern/config_detail.py` has the detail stage's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from modern.config_common import (
    DataConfig,
    Pipeline,
    RunConfig,
    RunLengthConfig,
    read_dict,
    read_legacy_dict,
    read_legacy_yml,
    to_dict,
    with_legacy_overrides,
)
from modern.data.sources import Source
from modern.legacy_keys import KEYS, Key

__all__ = [
    "CoarseConfig",
    "CoarseDataConfig",
    "LossConfig",
    "ModelConfig",
    "TrainConfig",
    "deca_losses",
    "from_dict",
    "from_legacy_dict",
    "from_legacy_yml",
    "to_dict",
    "with_legacy_overrides",
]

_MEAD = Path("/media/cine/de6afd1d-c444-4d43-a787-079519ace719/MEAD_Dataset_25/masks")
_AFF_WILD2 = Path("/media/cine/First/Aff-wild2/masks")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Sizes and files of the model.

    Attributes:
        head: compact .npz or folder of the original head files, see `modern.assets.load_head`.
        encoder_weights: file that holds the frozen `E_flame`.
        pretrained: a trained `model.tar` to start from; None starts from a fresh BiViT.
        au_weights: OpenGraphAU second-stage checkpoint.
        emotion_weights: expression network checkpoint.
        identity_weights: VGGFace2 network, only for the `deca` loss table.
        image_size: rows = columns of frames and raster.
        dropout: probability at every dropout of BiViT while training.
        jaw: unit of the encoder's jaw rotation, axis-angle (`aa`) or `euler`.
    """

    head: Path = Path("data")
    encoder_weights: Path = Path("data/deca_model.tar")
    pretrained: Path | None = None
    au_weights: Path = Path("data/OpenGprahAU-ResNet50_second_stage.pth")
    emotion_weights: Path = Path("data/dataloader_idx_0=1.27607644.ckpt")
    identity_weights: Path = Path("data/resnet50_ft_weight.pkl")
    image_size: int = 224
    dropout: float = 0.1
    jaw: Literal["aa", "euler"] = "aa"

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ValueError(f"model.dropout is {self.dropout}, expected 0 <= dropout < 1")
        if self.image_size < 32 or self.image_size % 32:
            raise ValueError(f"model.image_size is {self.image_size}, expected a multiple of 32")


@dataclass(frozen=True, kw_only=True, slots=True)
class CoarseDataConfig(DataConfig):
    """Clips of the shipped run."""

    sources: tuple[Source, ...] = (
        Source(root=_MEAD, depth=4, limit=3000),
        Source(root=_AFF_WILD2, depth=2, repeat=6),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig(RunLengthConfig):
    """Optimiser, length, and how often things are written (coarse spec 7)."""

    output_dir: Path = Path("/media/cine/First/HJCode2/AUSequence/Training1_videoC_OnlyE_AULossF/pretrain2")
    lr: float = 1e-4
    max_epochs: int = 50
    log_steps: int = 1000
    vis_steps: int = 1000

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise ValueError(f"train.lr is {self.lr}, expected a positive learning rate")


@dataclass(frozen=True, kw_only=True, slots=True)
class LossConfig:
    """Which loss table is used, and the weight of each term; 0 leaves most terms out (coarse spec 6).

    Attributes:
        table: `sequence` for the terms of AU_sequence, `deca` for those of the original DECA.
        action_unit_feature: AU feature distance. A switch only: its weight is `emotion` unless fix D12 is on.
        emotion: expression-network feature distance.
        au_weighted: add the AU-weighted landmark and AU terms, without the distance term.
        au_focal: add all three AU-dependent terms; ignored if `au_weighted`.
        au_landmark: weight of the AU-weighted landmark term.
        au_distance: weight of the AU distance term.
        segmentation: weight pixels with the data set's mask instead of the rendered face region.
        identity: VGGFace2 distance, `deca` table only.
    """

    table: Literal["sequence", "deca"] = "sequence"
    landmark: float = 8.0
    landmark_dense: float = 8.0
    relative_landmark: float = 1.0
    eye_distance: float = 1.0
    lip_distance: float = 0.0
    photometric: float = 5.0
    segmentation: bool = True
    emotion: float = 7.0
    action_unit_feature: float = 1.0
    au_weighted: bool = False
    au_focal: bool = False
    au_landmark: float = 0.5
    au_distance: float = 0.25
    identity: float = 0.0
    reg_shape: float = 0.0
    reg_expression: float = 1e-4
    reg_texture: float = 1e-4
    reg_light: float = 1.0
    reg_jaw: float = 0.01

    @property
    def needs_au_classifier(self) -> bool:
        """Whether a term reads the 41 action-unit probabilities."""
        return self.table == "sequence" and (self.au_weighted or self.au_focal)

    @property
    def needs_identity(self) -> bool:
        """Whether a term reads VGGFace2 features."""
        return self.table == "deca" and self.identity > 0


def deca_losses() -> LossConfig:
    """The original DECA's coarse terms and weights (deca_base spec 1 and 9)."""
    return LossConfig(
        table="deca",
        landmark=1.0,
        eye_distance=1.0,
        lip_distance=0.5,
        photometric=2.0,
        identity=0.2,
        reg_shape=1e-4,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class CoarseConfig(RunConfig):
    """All settings of a run of the coarse stage."""

    pipeline_name: ClassVar[Pipeline] = "coarse"
    legacy_keys: ClassVar[Mapping[str, Key]] = KEYS

    model: ModelConfig = field(default_factory=ModelConfig)
    data: CoarseDataConfig = field(default_factory=CoarseDataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    loss: LossConfig = field(default_factory=LossConfig)


def from_legacy_yml(path: Path | str) -> CoarseConfig:
    """As `read_legacy_yml`, for the coarse stage."""
    return read_legacy_yml(CoarseConfig, path)


def from_legacy_dict(content: Mapping[str, Any], source: str = "legacy settings") -> CoarseConfig:
    """As `read_legacy_dict`, for the coarse stage."""
    return read_legacy_dict(CoarseConfig, content, source)


def from_dict(content: Mapping[str, Any], source: str = "configuration") -> CoarseConfig:
    """As `read_dict`, for the coarse stage."""
    return read_dict(CoarseConfig, content, source)
