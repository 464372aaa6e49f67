"""pytorch3d's rasteriser made cheap for runs of many steps: fewer pixels, and equal meshes searched once.

Axes: N meshes, H W rows and columns, K = 1 face per pixel. A wrapper takes what pytorch3d's `rasterize_meshes` takes
and stands in its place on both sides alike; a mesh keeps all its faces.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from torch import Tensor

Rasterize = Callable[..., tuple[Tensor, ...]]


def remembering(original: Rasterize) -> Rasterize:
    """Equal meshes are rasterised once: the search for visible faces takes seconds an image.

    Values are those of the first equal call (bytes of vertices and faces, same settings); a mesh that carries gradient
    is never remembered.
    """
    seen: dict[str, tuple[Tensor, ...]] = {}

    def rasterize_meshes(meshes: Any, **settings: Any) -> tuple[Tensor, ...]:
        vertices, faces = meshes.verts_packed(), meshes.faces_packed()
        if vertices.requires_grad:
            return original(meshes, **settings)
        sha = hashlib.sha256(
            repr((sorted(settings.items()), vertices.shape, len(meshes), str(vertices.device))).encode()
        )
        for tensor in (vertices, faces):
            sha.update(tensor.cpu().contiguous().numpy().tobytes())
        if sha.hexdigest() not in seen:
            seen[sha.hexdigest()] = original(meshes, **settings)
        return tuple(tensor.clone() for tensor in seen[sha.hexdigest()])

    return rasterize_meshes


def shrunk(original: Rasterize, pixels: int) -> Rasterize:
    """Rasterise at `pixels` x `pixels` and let each pixel stand for a square of the picture that was asked for.

    Raises:
        ValueError: when called for a picture whose side is no multiple of `pixels`.
    """

    def rasterize_meshes(meshes: Any, *, image_size: Any, **settings: Any) -> tuple[Tensor, ...]:
        rows, columns = (image_size, image_size) if isinstance(image_size, int) else image_size
        if rows != columns or rows % pixels:
            raise ValueError(f"raster {pixels}: a picture of {rows} x {columns} pixels is no multiple of it")
        small = original(meshes, image_size=pixels, **settings)
        return tuple(_enlarged(tensor, rows // pixels) for tensor in small)

    return rasterize_meshes


def _enlarged(values_NHWK: Tensor, factor: int) -> Tensor:
    """Each pixel `factor` x `factor` times; expanding instead of indexing keeps the gradient a plain sum."""
    count, rows, columns, *rest = values_NHWK.shape
    spread = values_NHWK[:, :, None, :, None].expand(count, rows, factor, columns, factor, *rest)
    return spread.reshape(count, rows * factor, columns * factor, *rest)


@contextmanager
def rasterising(module: Any, change: Callable[[Rasterize], Rasterize]) -> Iterator[None]:
    """While inside, `module.rasterize_meshes` is what `change` makes of it."""
    original: Rasterize = module.rasterize_meshes
    with mock.patch.object(module, "rasterize_meshes", change(original)):
        yield
