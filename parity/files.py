"""Small file helpers: atomic writes, digests of source trees, a bound on what a cache keeps."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from fixtures.atomic import replacing

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` so that `path` holds either the old file or the whole new one."""
    with replacing(path) as part:
        part.write_bytes(content)


def tree_digest(places: Iterable[Path], suffixes: tuple[str, ...] = (".py", ".yml")) -> str:
    """SHA-256 over names and bytes of `places`: files, or all files with `suffixes` below a folder, in sorted order."""
    digest = hashlib.sha256()
    for place in places:
        for path in [place] if place.is_file() else sorted(place.rglob("*")):
            if path.suffix in suffixes and "__pycache__" not in path.parts:
                digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def prune(folder: Path, most: int, keep: Iterable[Path] = ()) -> None:
    """Drop the oldest folders in `folder` beyond `most`; those of `keep` stay."""
    kept = set(keep)
    entries = sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for path in entries[:-most]:
        if path not in kept:
            shutil.rmtree(path, ignore_errors=True)
