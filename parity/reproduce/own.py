"""A subject of your own: which of its run's fields it looked at, and which files its code came from."""

from __future__ import annotations

import hashlib
import sys
import sysconfig
import traceback
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from parity.reproduce.run import Run

# What nobody but the subject can carry out; all other switches are set before its first line runs.
HONOURED = frozenset(
    {"kind", "company", "clips", "workers", "adam", "compiled", "channels_last", "stop", "resumed", "ulp"}
)
_FIELDS = frozenset(item.name for item in fields(Run))
_STANDARD = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})
_INSTALLED = frozenset({"site-packages", "dist-packages"})


def is_own(subject: str) -> bool:
    """Whether a subject is given as `module:function`."""
    return ":" in subject


class NoticedRun(Run):
    """A run that remembers which of its fields were looked at; printing looks at none, copying at all of them.

    Helpers that the subject hands its run to (`prepare`, `moved_pixels`, `chance.loading`) look on its behalf.
    """

    def __getattribute__(self, name: str) -> Any:
        if name in _FIELDS:
            self.__dict__.setdefault("_read", set()).add(name)
        return object.__getattribute__(self, name)

    def __repr__(self) -> str:
        return f"Run({', '.join(f'{name}={value!r}' for name, value in vars(self).items() if name in _FIELDS)})"


def noticed(run: Run) -> tuple[Run, set[str]]:
    """`run` as a subject of your own gets it, and the names that it will have looked at."""
    found = NoticedRun(**vars(run))
    found.__dict__["_read"] = read = set[str]()
    return found, read


def sources() -> dict[str, str]:
    """File -> SHA-256 of every module that this process has imported and nobody installed."""
    found: dict[str, str] = {}
    for module in list(sys.modules.values()):
        name = getattr(module, "__file__", None)
        if name and _ours(path := Path(name).resolve()) and path.is_file():
            found[str(path)] = _digest(path)
    return found


def unchanged(known: Mapping[str, str] | None) -> bool:
    """Whether all files are still there as `sources` found them; False where it found none."""
    found = [Path(name).is_file() and _digest(Path(name)) == digest for name, digest in (known or {}).items()]
    return bool(found) and all(found)


def said(error: Exception) -> str:
    """Type, message and place of an error; the place is the innermost line that nobody installed."""
    frames = traceback.extract_tb(error.__traceback__)
    frame = next((frame for frame in reversed(frames) if _ours(Path(frame.filename))), None)
    at = f" ({frame.filename}:{frame.lineno})" if frame else ""
    return f"{type(error).__name__}: {error}{at}"


def _ours(path: Path) -> bool:
    return not _INSTALLED & set(path.parts) and not str(path).startswith((*_STANDARD, "<"))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
