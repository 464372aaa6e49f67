"""Plain values, as YAML and JSON hold them, to and from frozen dataclasses of settings."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

Record = TypeVar("Record")


def encode(record: Any) -> dict[str, Any]:
    """A dataclass as nested plain values."""
    return _plain(asdict(record))


def decode(kind: type[Record], content: Mapping[str, Any], where: str) -> Record:
    """The inverse of `encode`; missing settings take their defaults.

    Raises:
        ValueError: on an unknown setting or a value of the wrong type, naming `where` it stands.
    """
    return _decode_record(kind, content, where)


def replaced(record: Record, values: Mapping[str, Any], where: str) -> Record:
    """`record` with some fields set; values are converted to the fields' types.

    Raises:
        ValueError: on a value of the wrong type.
    """
    hints = typing.get_type_hints(type(record))
    typed = {name: _decode(hints[name], value, f"{where}.{name}") for name, value in values.items()}
    return replace(record, **typed)  # type: ignore[type-var]


def flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as one mapping from dotted names."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


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
