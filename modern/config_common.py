"""What the settings of both pipelines share, and reading them from a legacy yml or from plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import yaml

from modern.config_values import decode, encode, flatten, replaced
from modern.data.sources import Source
from modern.fixes import check_fixes
from modern.legacy_keys import Key, resolve

Pipeline = Literal["coarse", "detail"]
_SECTIONS = ("model", "data", "train", "loss")


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Where clips come from and how they are batched.

    Attributes:
        sources: trees of clips.
        validation_fraction: share of the clips held back from training; 0 trains on all, as the original does.
        batch_size: clips per update.
        workers: loading processes.
    """

    sources: tuple[Source, ...] = ()
    validation_fraction: float = 0.1
    batch_size: int = 1
    workers: int = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class RunLengthConfig:
    """Where a run is written, how long it is, and how often things are written."""

    output_dir: Path = Path()
    seed: int = 0
    max_epochs: int = 500
    max_steps: int = 10**18
    log_steps: int = 10
    vis_steps: int = 200
    checkpoint_steps: int = 500
    write_summary: bool = True
    resume: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """All settings of a run; a pipeline adds its sections `model`, `data`, `train` and `loss`.

    Attributes:
        fixes: ids of registered departures from legacy defects that are switched on, see `modern/fixes.py`.
        ignored: legacy keys that were given but that neither legacy nor this package acts on.
    """

    pipeline_name: ClassVar[Pipeline]
    legacy_keys: ClassVar[Mapping[str, Key]]

    fixes: frozenset[str] = frozenset()
    ignored: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fixes(self.fixes, self.pipeline_name)


Config = TypeVar("Config", bound=RunConfig)


def read_legacy_yml(kind: type[Config], path: Path | str) -> Config:
    """Read a yml of a legacy trainer; where it is silent the legacy defaults apply, not this package's.

    Raises:
        ValueError: on an unknown key, naming key, file and nearest known key, or on an unusable value.
        FileNotFoundError: if there is no such file.
    """
    return read_legacy_dict(kind, read_yaml(Path(path)) or {}, source=str(path))


def read_yaml(path: Path) -> Any:
    """The content of a YAML file, as plain values.

    Raises:
        ValueError: if it is no YAML, or asks for objects to be made.
        FileNotFoundError: if there is no such file.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is not plain YAML ({reason}); give the yml itself, not a dump of it") from error


def read_legacy_dict(kind: type[Config], content: Mapping[str, Any], source: str) -> Config:
    """As `read_legacy_yml`, from its parsed content (sections as nested mappings)."""
    if not isinstance(content, Mapping):
        raise ValueError(f"{source} holds {type(content).__name__}, expected sections of settings")
    given = flatten(content)
    legacy = {name: key.default for name, key in kind.legacy_keys.items()} | given
    targets, _ = resolve(legacy, source, kind.legacy_keys)
    _, ignored = resolve(given, source, kind.legacy_keys)
    return replace(_set(kind(), targets), ignored=ignored)


def with_legacy_overrides(config: Config, overrides: Mapping[str, Any]) -> Config:
    """`config` with single legacy settings changed, e.g. ``{"loss.focalAU": True}``.

    Raises:
        ValueError: on an unknown key or an unusable value.
    """
    targets, ignored = resolve(overrides, "overrides", config.legacy_keys)
    return replace(_set(config, targets), ignored=(*config.ignored, *ignored))


def to_dict(config: RunConfig) -> dict[str, Any]:
    """The configuration as plain values that JSON and YAML can hold."""
    return encode(config)


def read_dict(kind: type[Config], content: Mapping[str, Any], source: str) -> Config:
    """The inverse of `to_dict`; missing settings take their defaults.

    Raises:
        ValueError: on an unknown setting or a value of the wrong type.
    """
    return decode(kind, content, source)


def _set(config: Config, values: Mapping[str, Any]) -> Config:
    """`config` with `section.name` -> value set."""
    for section in _SECTIONS:
        chosen = {name.partition(".")[2]: value for name, value in values.items() if name.startswith(f"{section}.")}
        config = replace(config, **{section: replaced(getattr(config, section), chosen, section)})
    return config
