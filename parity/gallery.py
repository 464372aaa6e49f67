"""Which tensors of an audit are shown as pictures, and how they are brought to colours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from parity.audit import Evidence
from parity.report.pictures import height_picture, picture
from parity.schema import Picture

CENTRE = 1  # of the three images; the coarse stage has only the centre frame


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A tensor worth looking at: its key, a title, a sentence, and how one image [C,H,W] of it becomes RGB 0..1."""

    key: str
    title: str
    caption: str
    colours: Callable[[Tensor], Tensor] = lambda image: image
    height: bool = False


def _normal_colours(normal_3HW: Tensor) -> Tensor:
    return (normal_3HW + 1) / 2


def _grey(mask_1HW: Tensor) -> Tensor:
    return mask_1HW.expand(3, -1, -1)


GALLERY: dict[str, tuple[Shown, ...]] = {
    "coarse": (
        Shown(key="rendering/images", title="rendering", caption="centre frame, each side on its own codes"),
        Shown(key="texture/albedo", title="albedo", caption="the texture before shading"),
    ),
    "detail": (
        Shown(
            key="generator/uv_z",
            title="uv_z",
            caption="displacement along the normal in texture space, as the generator paints it; centre image",
            height=True,
        ),
        Shown(key="final_image/final_image", title="final image", caption="the detailed face over the photograph"),
        Shown(
            key="displacement/uv_detail_normals",
            title="detail normals",
            caption="normals of the displaced surface in texture space; x, y, z from -1..1 as red, green, blue",
            colours=_normal_colours,
        ),
        Shown(key="uv_texture/uv_texture", title="texture", caption="albedo times shading in texture space"),
        Shown(
            key="visibility/vis",
            title="visible texels",
            caption="where the photograph shows the texel: white is trusted",
            colours=_grey,
        ),
    ),
}


def pictures_of(evidence: Sequence[Evidence]) -> list[Picture]:
    """The pictures of every variant; what a side lacks, or yields in another shape, is left out."""
    return [made for part in evidence for shown in GALLERY[part.spec.pipeline] if (made := _made(part, shown))]


def _made(part: Evidence, shown: Shown) -> Picture | None:
    sides = [trace.tensors.get(shown.key) for trace in (part.legacy, part.modern)]
    if any(side is None for side in sides) or sides[0].shape != sides[1].shape:  # type: ignore[union-attr]
        return None
    images = [side[min(CENTRE, len(side) - 1)] for side in sides if side is not None]
    title = f"{shown.title} ({part.variant})"
    if shown.height:
        return height_picture(title, shown.caption, *(np.asarray(image[0]) for image in images))
    return picture(title, shown.caption, *(np.asarray(shown.colours(image)) for image in images))
