"""Tensors into the report's pictures: PNG data URIs of both sides and of their difference with a stated scale.

Axes: H rows, W columns; colour images are RGB, 0..1, channels first.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from parity.schema import PNG, Frame, Picture

SIDE = 320  # px; larger pictures are halved until they fit, which keeps a report small
_BLUE, _ORANGE, _NEUTRAL = np.array([0, 92, 158]), np.array([213, 94, 0]), np.array([244, 244, 242])


def frame(title: str, image_3HW: ArrayLike) -> Frame:
    """One input frame; `image_3HW` is RGB 0..1, [3,H,W]."""
    return Frame(title=title, image=_uri(_bytes_HW3(image_3HW)))


def picture(title: str, caption: str, legacy_3HW: ArrayLike, modern_3HW: ArrayLike) -> Picture:
    """Both renderings and their signed difference.

    Args:
        title: what is shown.
        caption: one sentence about it.
        legacy_3HW: RGB 0..1, [3,H,W]; values outside are clipped for display only.
        modern_3HW: same shape.

    Raises:
        ValueError: the two shapes differ or are not [3,H,W].
    """
    legacy, modern = _image_3HW(legacy_3HW), _image_3HW(modern_3HW)
    if legacy.shape != modern.shape:
        raise ValueError(f"picture {title!r}: legacy is {legacy.shape}, modern {modern.shape}; they must be equal")
    difference, scale = difference_image(legacy, modern)
    sides = (_uri(_bytes_HW3(legacy)), _uri(_bytes_HW3(modern)), _uri(difference))
    return _picture(title, caption, sides, scale)


def height_picture(title: str, caption: str, legacy_HW: ArrayLike, modern_HW: ArrayLike) -> Picture:
    """Two displacement maps in one colour scale, symmetric about zero, and their signed difference.

    Args:
        title: what is shown.
        caption: one sentence about it.
        legacy_HW: metres along the surface normal, [H,W].
        modern_HW: same shape.

    Raises:
        ValueError: the two shapes differ or are not [H,W].
    """
    legacy, modern = (np.nan_to_num(np.asarray(height, dtype=np.float64)) for height in (legacy_HW, modern_HW))
    if legacy.ndim != 2 or legacy.shape != modern.shape:
        raise ValueError(f"heights {title!r}: legacy is {legacy.shape}, modern {modern.shape}; both must be [H,W]")
    peak = float(max(np.abs(legacy).max(initial=0.0), np.abs(modern).max(initial=0.0)))
    difference = modern - legacy
    largest = float(np.abs(difference).max(initial=0.0))
    sides = [_uri(_diverging_HW3(height, peak)) for height in (legacy, modern)]
    sides.append(_uri(_diverging_HW3(np.sign(difference) * np.sqrt(np.abs(difference)), largest**0.5)))
    scale = "no texel differs"
    if largest:
        differing = f"{np.count_nonzero(difference):,} of {difference.size:,} texels differ"
        scale = f"difference: full colour = {_length(largest)}, square-root scale; {differing}"
    legend = [f"{_length(-peak)} (inwards)", "0", f"{_length(peak)} (outwards)"]
    return _picture(title, caption, sides, scale, legend)


def _picture(title: str, caption: str, sides: Sequence[str], scale: str, legend: Sequence[str] = ()) -> Picture:
    legacy, modern, difference = sides
    return Picture(
        title=title,
        caption=caption,
        legacy=legacy,
        modern=modern,
        difference=difference,
        scale=scale,
        legend=list(legend),
    )


def _length(metres: float) -> str:
    """In millimetres, and in the model's own unit."""
    return f"{metres * 1e3:.3g} mm = {metres:.2e} model units"


def _diverging_HW3(values_HW: NDArray[np.float64], full: float) -> NDArray[np.uint8]:
    """Blue below zero, orange above, full colour at `full`."""
    share_HW1 = np.abs(values_HW)[..., None] / full if full else np.zeros((*values_HW.shape, 1))
    colour_HW3 = np.where(values_HW[..., None] > 0, _ORANGE, _BLUE)
    return (_NEUTRAL + share_HW1 * (colour_HW3 - _NEUTRAL)).round().astype(np.uint8)


def difference_image(legacy_3HW: ArrayLike, modern_3HW: ArrayLike) -> tuple[NDArray[np.uint8], str]:
    """Modern minus legacy, blue where modern is darker and orange where it is brighter, and what full colour means.

    Each pixel shows the channel that differs most. Colour grows with the square root, so that a tenth of the largest
    difference can still be seen.
    """
    legacy, modern = _image_3HW(legacy_3HW), _image_3HW(modern_3HW)
    delta_3HW = np.nan_to_num(modern - legacy)
    channel_1HW = np.abs(delta_3HW).argmax(axis=0)[None]
    delta_HW = np.take_along_axis(delta_3HW, channel_1HW, axis=0)[0]
    largest = float(np.abs(delta_HW).max(initial=0.0))
    if largest == 0:
        return np.broadcast_to(_NEUTRAL, (*delta_HW.shape, 3)).astype(np.uint8), "no pixel differs"
    share_HW1 = np.sqrt(np.abs(delta_HW) / largest)[..., None]
    full_HW3 = np.where(delta_HW[..., None] > 0, _ORANGE, _BLUE)
    image = (_NEUTRAL + share_HW1 * (full_HW3 - _NEUTRAL)).round().astype(np.uint8)
    differing = int(np.count_nonzero(delta_HW))
    return image, (
        f"blue: modern darker, orange: modern brighter; full colour = {largest:.1e} (white = 1), square-root scale; "
        f"{differing:,} of {delta_HW.size:,} pixels differ"
    )


def _image_3HW(image: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(image, dtype=np.float64)
    if array.ndim != 3 or array.shape[0] != 3:
        raise ValueError(f"picture: expected an RGB image [3,H,W], found shape {array.shape}; drop the batch axis")
    return array


def _bytes_HW3(image: ArrayLike) -> NDArray[np.uint8]:
    clipped = np.nan_to_num(_image_3HW(image)).clip(0, 1)
    return (clipped * 255).round().astype(np.uint8).transpose(1, 2, 0)


def _uri(image_HW3: NDArray[np.uint8]) -> str:
    while max(image_HW3.shape[:2]) > SIDE:
        image_HW3 = image_HW3[::2, ::2]
    buffer = io.BytesIO()
    Image.fromarray(image_HW3).save(buffer, "PNG", optimize=True)
    return PNG + base64.b64encode(buffer.getvalue()).decode()
