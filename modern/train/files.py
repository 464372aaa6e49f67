"""Files and folders that are either complete or not there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

_READ_WRITE = 0o666


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    write_file(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}.{path.name}")  # keeps the suffix, by which some writers choose the format
    try:
        write(part)
        _flush(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_folder(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary folder beside `path`, then put it in place.

    Raises:
        OSError: if `path` exists and is not empty.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}.{path.name}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        write(part)
        for file in part.iterdir():
            file.chmod(part.stat().st_mode & _READ_WRITE)  # as the umask says; safetensors writes for the owner only
            _flush(file)
        part.replace(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _flush(path: Path) -> None:
    """Have the bytes on disk before the name points to them: a power cut must not leave an empty checkpoint."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
