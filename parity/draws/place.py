"""Where in the source something was called from."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

import numpy as np
import torch

from parity.files import ROOT

_TORCH, _NUMPY = str(Path(torch.__file__).parent), str(Path(np.__file__).parent)
_OURS = str(Path(__file__).parent)
_INSIDE = (_TORCH, _NUMPY, _OURS)


def caller() -> str:
    """`file:line` of the innermost frame outside torch, numpy and this package.

    Where that is a library, the innermost frame of this project follows after " < ".
    """
    frame: FrameType | None = sys._getframe(1)
    found = ""
    while frame is not None:
        path = frame.f_code.co_filename
        if not path.startswith((*_INSIDE, "<")) and "unittest/mock" not in path:
            here = Path(path).is_relative_to(ROOT) and "site-packages" not in path
            found = f"{found} < {_short(path, frame)}" if found and here else found or _short(path, frame)
            if here:
                return found
        frame = frame.f_back
    return found


def _short(path: str, frame: FrameType) -> str:
    file = Path(path)
    after = (
        path.partition("site-packages/")[2] or path.partition(f"/python{sys.version_info[0]}.{sys.version_info[1]}/")[2]
    )
    name = after or (file.relative_to(ROOT).as_posix() if file.is_relative_to(ROOT) else file.name)
    return f"{name}:{frame.f_lineno}"
