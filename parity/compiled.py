"""Compiled code that runs a crowd of tiny operations, seen by those who listen to operations as the one call it is.

pytorch3d's rasteriser works on the CPU number by number through whole tensors: over a million operations a step, most
of them in its gradient. Told of each, a listener makes the step several times as long and learns nothing.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

_EXTENSION = "pytorch3d._C"
_SCHEMAS = {
    "rasterize_meshes": "(Tensor face_verts, Tensor mesh_to_face_first_idx, Tensor num_faces_per_mesh, "
    "Tensor clipped_faces_neighbor_idx, int[] image_size, float blur_radius, int faces_per_pixel, int bin_size, "
    "int max_faces_per_bin, bool perspective_correct, bool clip_barycentric_coords, bool cull_backfaces) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
    "rasterize_meshes_backward": "(Tensor face_verts, Tensor pix_to_face, Tensor grad_zbuf, Tensor grad_bary, "
    "Tensor grad_dists, bool perspective_correct, bool clip_barycentric_coords) -> Tensor",
}
_originals: dict[str, Callable[..., Any]] = {}  # while a block is open
_lock = threading.Lock()
_blocks = 0  # that are open, maybe in several threads


def _run(name: str, *arguments: Any) -> Any:
    return _originals[name](*arguments)


_library = torch.library.Library("compiled", "DEF")
for _name, _schema in _SCHEMAS.items():
    _library.define(_name + _schema)
    _library.impl(_name, partial(_run, _name), "CompositeExplicitAutograd")


@contextmanager
def told_as_one() -> Iterator[None]:
    """Inside, modes of operations see `compiled.rasterize_meshes` and its gradient instead of what they consist of.

    Values are those of the functions themselves. Without pytorch3d nothing happens.
    """
    extension = sys.modules.get(_EXTENSION)
    if extension is None:
        yield
        return
    _enter(extension)
    try:
        yield
    finally:
        _leave(extension)


def _enter(extension: Any) -> None:
    global _blocks
    with _lock:
        _blocks += 1
        if _blocks == 1:
            for name in _SCHEMAS:
                _originals[name] = getattr(extension, name)
                setattr(extension, name, getattr(torch.ops.compiled, name))


def _leave(extension: Any) -> None:
    global _blocks
    with _lock:
        _blocks -= 1
        if not _blocks:
            for name, function in _originals.items():
                setattr(extension, name, function)
            _originals.clear()
