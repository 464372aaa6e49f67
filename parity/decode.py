"""Plain JSON values into typed dataclasses, with messages that say where a value is wrong."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

Record = TypeVar("Record")
_NON_FINITE = ("inf", "-inf", "nan")


def decode(kind: Any, value: Any, where: str) -> Any:
    """Build a value of type `kind` from parsed JSON.

    Args:
        kind: a dataclass, TypedDict, enum, Literal, list[...], dict[str, ...], union, scalar type or Any.
        value: what json.loads gave; "inf", "-inf" and "nan" stand for numbers where a float is wanted.
        where: dotted path for messages.

    Raises:
        ValueError: `value` does not have type `kind`.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _decode_union(arguments, value, where)
    if origin is typing.Literal:
        return _one_of(arguments, value, where)
    if origin is list:
        items = _expect(list, value, where)
        return [decode(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(items)]
    if origin is dict:
        return {key: decode(arguments[1], item, f"{where}.{key}") for key, item in _expect(dict, value, where).items()}
    if is_dataclass(kind) or typing.is_typeddict(kind):
        return _decode_record(kind, value, where)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(_one_of([member.value for member in kind], value, where))
    return _decode_scalar(kind, value, where)


def parsed(path: Path, again: str) -> Any:
    """What a JSON file holds; `again` says how it is made.

    Raises:
        FileNotFoundError: none there.
        ValueError: not a complete JSON file.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a complete JSON file ({error}); {again}") from error


def read_record(kind: type[Record], path: Path, schema: int, command: str) -> Record:
    """Read a JSON file that holds a `kind` of this schema; `command` writes it.

    Raises:
        FileNotFoundError: none there.
        ValueError: not JSON, of another schema, or a field of a wrong type; the message says where.
    """
    again = f"run `{command}` again"
    document = parsed(path, again)
    found = document.get("schema") if isinstance(document, dict) else None
    if found != schema:
        raise ValueError(f"{path}: schema is {found!r}, this version reads {schema}; {again}")
    record: Record = decode(kind, document, path.stem)
    return record


def _decode_record(kind: Any, value: Any, where: str) -> Any:
    hints, required = _fields(kind)
    given: dict[str, Any] = _expect(dict, value, where)
    if unknown := sorted(given.keys() - hints.keys()):
        raise ValueError(f"{where}: unknown field {unknown[0]!r}; known: {', '.join(hints)}")
    if missing := [name for name in required if name not in given]:
        raise ValueError(f"{where}: field {missing[0]!r} is missing")
    return kind(**{name: decode(hints[name], item, f"{where}.{name}") for name, item in given.items()})


@cache
def _fields(kind: Any) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    hints = typing.get_type_hints(kind)
    if not is_dataclass(kind):
        return hints, tuple(hints)
    items = fields(kind)
    required = tuple(item.name for item in items if item.default is MISSING and item.default_factory is MISSING)
    return {item.name: hints[item.name] for item in items}, required


def _decode_union(arms: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and types.NoneType in arms:
        return None
    errors = []
    for arm in arms:
        if arm is not types.NoneType:
            try:
                return decode(arm, value, where)
            except ValueError as error:
                errors.append(str(error))
    raise ValueError(errors[0])


def _decode_scalar(kind: type, value: Any, where: str) -> Any:
    if kind is float and (value in _NON_FINITE or (isinstance(value, int) and not isinstance(value, bool))):
        return float(value)
    if kind is int and isinstance(value, bool):
        raise ValueError(f"{where}: expected int, found bool {value!r}")
    return _expect(kind, value, where)


def _one_of(allowed: typing.Iterable[Any], value: Any, where: str) -> Any:
    if value not in allowed:
        raise ValueError(f"{where}: {value!r} is not one of {', '.join(map(str, allowed))}")
    return value


def _expect(kind: type, value: Any, where: str) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"{where}: expected {kind.__name__}, found {type(value).__name__} {str(value)[:60]!r}")
    return value
