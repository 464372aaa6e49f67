"""Every setting of model, data, training and losses, typed; the defaults are the shipped run OnlyE2 (coarse spec 9).

`modern/legacy_keys.py` relates them to the keys of a legacy yml.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from modern.data.sources import Source
from modern.fixes import check_fixes
from modern.legacy_keys import KEYS, resolve

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
class DataConfig:
    """Where clips come from and how they are batched.

    Attributes:
        sources: trees of clips.
        validation_fraction: share of the clips held back from training; 0 trains on all, as the original does.
        batch_size: clips per update.
        workers: loading processes.
    """

    sources: tuple[Source, ...] = (
        Source(root=_MEAD, depth=4, limit=3000),
        Source(root=_AFF_WILD2, depth=2, repeat=6),
    )
    validation_fraction: float = 0.1
    batch_size: int = 1
    workers: int = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """Optimiser, length, and how often things are written (coarse spec 7)."""

    output_dir: Path = Path("/media/cine/First/HJCode2/AUSequence/Training1_videoC_OnlyE_AULossF/pretrain2")
    seed: int = 0
    lr: float = 1e-4
    max_epochs: int = 50
    max_steps: int = 10**18
    log_steps: int = 1000
    vis_steps: int = 1000
    checkpoint_steps: int = 500
    write_summary: bool = True
    resume: bool = True

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
class CoarseConfig:
    """All settings of a run.

    Attributes:
        fixes: ids of registered departures from legacy defects that are switched on, see `modern/fixes.py`.
        ignored: legacy keys that were given but that neither legacy nor this package acts on.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    fixes: frozenset[str] = frozenset()
    ignored: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fixes(self.fixes)


def from_legacy_yml(path: Path | str) -> CoarseConfig:
    """Read a yml of the legacy trainer; where it is silent the legacy defaults apply, not this package's.

    Raises:
        ValueError: on an unknown key, naming key, file and nearest known key, or on an unusable value.
        FileNotFoundError: if there is no such file.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not plain YAML ({error}); give the yml itself, not a dump of it") from error
    return from_legacy_dict(content or {}, source=str(path))


def from_legacy_dict(content: Mapping[str, Any], source: str = "legacy settings") -> CoarseConfig:
    """As `from_legacy_yml`, from its parsed content (sections as nested mappings)."""
    if not isinstance(content, Mapping):
        raise ValueError(f"{source} holds {type(content).__name__}, expected sections of settings")
    given = _flatten(content)
    legacy = {name: key.default for name, key in KEYS.items()} | given
    targets, _ = resolve(legacy, source)
    _, ignored = resolve(given, source)
    return replace(_set(CoarseConfig(), targets), ignored=ignored)


def with_legacy_overrides(config: CoarseConfig, overrides: Mapping[str, Any]) -> CoarseConfig:
    """`config` with single legacy settings changed, e.g. ``{"loss.focalAU": True}``.

    Raises:
        ValueError: as `from_legacy_yml`.
    """
    targets, ignored = resolve(overrides, "overrides")
    return replace(_set(config, targets), ignored=(*config.ignored, *ignored))


def to_dict(config: CoarseConfig) -> dict[str, Any]:
    """The configuration as plain values that JSON and YAML can hold."""
    return _plain(asdict(config))


def from_dict(content: Mapping[str, Any], source: str = "configuration") -> CoarseConfig:
    """The inverse of `to_dict`; missing settings take their defaults.

    Raises:
        ValueError: on an unknown setting or a value of the wrong type.
    """
    return _decode(CoarseConfig, content, source)


def _flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _set(config: CoarseConfig, values: Mapping[str, Any]) -> CoarseConfig:
    """`config` with `section.name` -> value set; values are converted to the field's type."""
    for section in ("model", "data", "train", "loss"):
        chosen = {name.partition(".")[2]: value for name, value in values.items() if name.startswith(f"{section}.")}
        before = getattr(config, section)
        hints = typing.get_type_hints(type(before))
        typed = {name: _decode(hints[name], value, f"{section}.{name}") for name, value in chosen.items()}
        config = replace(config, **{section: replace(before, **typed)})
    return config


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _decode(kind: Any, value: Any, where: str) -> Any:
    """Convert a plain value to `kind`: a config dataclass, tuple, frozenset, Literal, optional or scalar."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if is_dataclass(kind):
        return _decode_record(kind, value, where)
    if origin is types.UnionType:
        return None if value is None else _decode(arguments[0], value, where)
    if origin is Literal:
        return _expect(value in arguments, value, where, f"one of {', '.join(map(repr, arguments))}")
    if origin in (tuple, frozenset):
        _expect(isinstance(value, list | tuple | frozenset), value, where, "a list")
        return origin(_decode(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if kind is Path:
        return Path(_expect(isinstance(value, str | Path), value, where, "a path"))
    if kind is float:
        return _number(value, where)
    return _expect(type(value) is kind, value, where, kind.__name__)


def _decode_record(kind: Any, value: Any, where: str) -> Any:
    _expect(isinstance(value, Mapping), value, where, "a section of settings")
    hints = typing.get_type_hints(kind)
    names = [item.name for item in fields(kind)]
    for name in value:
        _expect(name in names, name, where, f"one of {', '.join(names)}")
    return kind(**{name: _decode(hints[name], item, f"{where}.{name}") for name, item in value.items()})


def _number(value: Any, where: str) -> float:
    """YAML 1.1 reads `1e-4` as text, so numbers in text are accepted."""
    try:
        return float(_expect(not isinstance(value, bool), value, where, "a number"))
    except (TypeError, ValueError):
        raise ValueError(f"{where}: {value!r} is not a number") from None


def _expect(accepted: bool, value: Any, where: str, wanted: str) -> Any:
    if not accepted:
        raise ValueError(f"{where}: {value!r} is not {wanted}")
    return value
