"""How the pass is compiled: for the widest registers, and kept in the first folder that can be written to.

Without such a folder it is compiled in each process.
"""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from llvmlite import binding
from numba import config

from parity.files import CACHE


@cache
def compiled_code_is_kept() -> bool:
    """Choose numba's cache folder and register width, unless the environment did; whether there is a folder.

    The environment's words are NUMBA_CACHE_DIR and NUMBA_CPU_FEATURES.
    """
    settings: Any = config
    _widen(settings)
    if settings.CACHE_DIR:
        return True
    for folder in (CACHE / "numba", Path(tempfile.gettempdir()) / f"parity-numba-{os.getuid()}"):
        if _writable(folder):
            settings.CACHE_DIR = str(folder)
            return True
    return False


def _widen(settings: Any) -> None:
    """Use registers of 512 bits where there are some: compilers prefer 256, for the sake of code that mixes both."""
    features = binding.get_host_cpu_features()
    if settings.CPU_FEATURES is None and settings.CPU_NAME is None and features.get("avx512f"):
        settings.CPU_FEATURES = f"{features.flatten()},-prefer-256-bit"


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder.stat().st_uid == os.getuid()  # code of other users is not run
    except OSError:
        return False
