"""Modern imported anew from a changed copy, for the length of a block."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from parity import worker
from parity.files import ROOT
from parity.selftest.mutation import Edit, MutationError, apply

MODERN = ROOT / "modern"


@contextmanager
def planted(edits: Sequence[Edit]) -> Iterator[Path]:
    """While inside, the audit's worker builds modern from a copy of its source that has the edits; yields the copy.

    Everything else (batch, weights, legacy's recordings) is as before, as are the modules afterwards.

    Raises:
        MutationError: an edit no longer fits the source.
    """
    with TemporaryDirectory(prefix="parity-selftest-") as scratch:
        copy = Path(scratch) / "modern"
        shutil.copytree(MODERN, copy, ignore=shutil.ignore_patterns("__pycache__"))
        apply(edits, copy)
        kept = {name: sys.modules.pop(name) for name in list(sys.modules) if _replaced(name)}
        sys.path.insert(0, scratch)
        importlib.invalidate_caches()
        worker._subject.cache_clear()
        try:
            found = importlib.import_module("modern").__file__ or ""
            if not found.startswith(scratch):
                raise MutationError(f"modern was imported from {found} instead of {scratch}")
            yield copy
        finally:
            sys.path.remove(scratch)
            for name in [name for name in sys.modules if _replaced(name)]:
                del sys.modules[name]
            sys.modules.update(kept)
            worker._subject.cache_clear()


def unread(edits: Sequence[Edit]) -> list[str]:
    """Edited files that nothing has imported; ask inside `planted` after the subject was built."""
    names = {edit.file: "modern." + edit.file.removesuffix(".py").replace("/", ".") for edit in edits}
    return [file for file, name in names.items() if name.removesuffix(".__init__") not in sys.modules]


def _replaced(name: str) -> bool:
    return name.split(".")[0] == "modern" or name.startswith("parity.modern_")
