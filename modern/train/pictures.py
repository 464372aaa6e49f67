"""Pictures of a step for the eye: tiles stacked top to bottom, as the original stacks them (coarse spec 7)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modern.clip import CENTRE, Clip
from modern.model import CoarseModel, Decoding, Encoding
from modern.train.files import write_file

Picture = NDArray[np.uint8]
_RADIUS = 1  # pixels


def tile(image_3HW: Tensor) -> Picture:
    """An RGB image in 0..1 as [H,W,3] bytes; values outside are clipped."""
    scaled = image_3HW.detach().cpu().permute(1, 2, 0).numpy() * 255.0
    return np.ascontiguousarray(scaled.clip(0, 255).astype(np.uint8))


def draw_landmarks(image_3HW: Tensor, points_L2: Tensor, colour: tuple[int, int, int] = (0, 255, 0)) -> Picture:
    """The image with a dot at each landmark.

    Args:
        image_3HW: RGB in 0..1.
        points_L2: [L,2] or more columns; x right, y down, in [-1,1] across the image.
        colour: RGB in 0..255.
    """
    picture = tile(image_3HW)
    height, width = picture.shape[:2]
    for x, y in points_L2[:, :2].detach().cpu().clamp(-2, 2).tolist():
        centre = (round((x + 1) * width / 2), round((y + 1) * height / 2))
        cv2.circle(picture, centre, _RADIUS, colour, thickness=-1)
    return picture


def stack(tiles: Sequence[Picture]) -> Picture:
    """Tiles of one width on top of each other."""
    return np.concatenate(tiles, axis=0)


def write_picture(path: Path, picture_RGB: Picture) -> None:
    """Write an RGB picture atomically; the suffix of `path` chooses the format.

    Raises:
        OSError: if it cannot be written.
    """

    def write(part: Path) -> None:
        if not cv2.imwrite(str(part), cv2.cvtColor(picture_RGB, cv2.COLOR_RGB2BGR)):
            raise OSError(f"{path}: OpenCV could not write the picture")

    write_file(path, write)


def training_picture(model: CoarseModel, clip: Clip, encoding: Encoding, decoding: Decoding) -> Picture:
    """The eight tiles of a training step (coarse spec 7), each the size of the raster.

    From top to bottom: photograph; the frozen encoder's head, face region and whole; dense landmarks, true and
    predicted; the predicted head, face region and whole; the rendering on black ground.
    """
    image_13HW = encoding.image_B3HW
    with torch.no_grad():
        deca_heads = model.shape_pictures(encoding.deca, image_13HW)
        heads = model.renderer.shape(decoding.rendering.surface, image_13HW)
    landmarks = (clip.landmark_dense_T1053[CENTRE], decoding.projected.landmarks_dense[0])
    return stack(
        [
            *(tile(image[0]) for image in (image_13HW, *deca_heads)),
            *(draw_landmarks(image_13HW[0], points) for points in landmarks),
            *(tile(image[0]) for image in (*heads, decoding.rendering.images_B3HW)),
        ]
    )
