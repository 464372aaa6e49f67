"""Small synthetic clips in the lab's layout."""

from pathlib import Path

import numpy as np
from PIL import Image

LANDMARK_INDICES = np.arange(105) * 4


def write_frame(images: Path, name: str, seed: int, size: int = 224) -> None:
    """One frame: smooth colours, 68 + 478 landmarks and a label map with every label."""
    random = np.random.RandomState(seed)
    cells = random.randint(0, 256, (4, 4, 3)).astype(np.uint8)
    Image.fromarray(cells).resize((size, size), Image.Resampling.BICUBIC).save(images / f"{name}.png")
    for kind, count in (("kpts", 68), ("kpts_dense", 478)):
        points = np.concatenate([random.uniform(-0.7, 0.7, (count, 2)), np.ones((count, 1))], axis=1)
        np.save(images.with_name(kind) / f"{name}.npy", points.astype(np.float32))
    labels = np.repeat(np.arange(16), size // 16)[:, None].repeat(size, axis=1)
    np.save(images.with_name("masks") / f"{name}.npy", labels.astype(np.uint8))


def write_clip(folder: Path, frames: int = 4, seed: int = 0, size: int = 224) -> Path:
    """A clip of the arrangement folder/images/0000.png; returns its folder."""
    for kind in ("images", "kpts", "kpts_dense", "masks"):
        (folder / kind).mkdir(parents=True)
    for frame in range(frames):
        write_frame(folder / "images", f"{frame:04}", seed + frame, size)
    return folder
