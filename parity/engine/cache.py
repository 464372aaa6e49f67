"""Where compiled code is kept: the first folder that can be written to; without one it is compiled in each process."""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from numba import config

from parity.files import CACHE


@cache
def compiled_code_is_kept() -> bool:
    """Choose numba's cache folder, unless the environment did (NUMBA_CACHE_DIR); whether there is one."""
    settings: Any = config
    if settings.CACHE_DIR:
        return True
    for folder in (CACHE / "numba", Path(tempfile.gettempdir()) / f"parity-numba-{os.getuid()}"):
        if _writable(folder):
            settings.CACHE_DIR = str(folder)
            return True
    return False


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder.stat().st_uid == os.getuid()  # code of other users is not run
    except OSError:
        return False
