"""A recorded raster inside modern: the faces are given, gradients flow to the mesh. Axes: B = 1 mesh, F faces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from modern.model import CoarseModel
from modern.renderer import Raster
from parity.recorded_raster import recorded_barycentric


@contextmanager
def recorded_raster(model: CoarseModel, raster: Raster) -> Iterator[None]:
    """While inside, the model's renderer yields `raster` instead of searching for visible faces.

    Gradients of the barycentric coordinates flow to the mesh that is rendered.
    """
    renderer = model.renderer

    def rasterize(projected_BV3: Tensor) -> Raster:
        corners_F33 = renderer.to_rasterizer(projected_BV3)[0][renderer.faces]
        barycentric = recorded_barycentric(corners_F33, raster.face_ids_BHW, raster.barycentric_BHW3)
        return Raster(face_ids_BHW=raster.face_ids_BHW, barycentric_BHW3=barycentric)

    renderer.rasterize = rasterize  # type: ignore[method-assign]
    try:
        yield
    finally:
        del renderer.rasterize
