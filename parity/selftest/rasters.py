"""Answers of pytorch3d's rasteriser, kept by the bytes of what it was asked.

It is compiled code that no planted change touches and that draws nothing, so equal questions have equal answers; asked
anew it takes seconds an image, most of the time of a replay. A change that moves a vertex asks another question.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytorch3d
from safetensors.torch import load, save
from torch import Tensor

from parity.files import write_atomically

NAMES = ("rasterize_meshes", "rasterize_meshes_backward")


@contextmanager
def remembered(folder: Path, *, keep: bool = False) -> Iterator[None]:
    """Inside, an equal call of the rasteriser or of its gradient is answered from memory or from `folder`.

    Args:
        folder: answers of earlier processes.
        keep: whether new answers are added to it.
    """
    from pytorch3d import _C  # compiled code of seconds to load

    with ExitStack() as stack:
        for name in NAMES:
            answering = _remembering(name, getattr(_C, name), folder, keep)
            stack.enter_context(mock.patch.object(_C, name, answering))
        yield


def _remembering(name: str, original: Callable[..., Any], folder: Path, keep: bool) -> Callable[..., Any]:
    seen: dict[str, list[Tensor]] = {}  # of one task: a few megabytes an answer, a score of them

    def answer(*arguments: Any) -> Any:
        if any(isinstance(argument, Tensor) and argument.device.type != "cpu" for argument in arguments):
            return original(*arguments)
        key = _key(name, arguments)
        place = folder / f"{key}.safetensors"
        if key not in seen:
            found = _read(place) or _asked(original, arguments)
            if keep and not place.exists():
                write_atomically(place, save({str(i): tensor.contiguous() for i, tensor in enumerate(found)}))
            seen[key] = found
        given = [tensor.clone() for tensor in seen[key]]
        return given[0] if len(given) == 1 else tuple(given)

    return answer


def _asked(original: Callable[..., Any], arguments: tuple[Any, ...]) -> list[Tensor]:
    found = original(*arguments)
    return [found] if isinstance(found, Tensor) else list(found)


def _read(place: Path) -> list[Tensor]:
    if not place.exists():
        return []
    tensors = load(place.read_bytes())
    return [tensors[str(i)] for i in range(len(tensors))]


def _key(name: str, arguments: tuple[Any, ...]) -> str:
    digest = hashlib.sha256(f"{name} {pytorch3d.__version__}".encode())
    for argument in arguments:
        if isinstance(argument, Tensor):
            digest.update(repr((argument.dtype, tuple(argument.shape))).encode())
            digest.update(argument.detach().contiguous().numpy().tobytes())
        else:  # (8, 8) or [8, 8], 0 or 0.0: an operator's schema (`parity/compiled.py`) makes one of the other
            numbers = argument if isinstance(argument, (list, tuple)) else [argument]
            digest.update(repr([float(number) for number in numbers]).encode())
        digest.update(b"\0")
    return digest.hexdigest()
