"""Which clips there are: folders searched, repeated, limited, and split into training and validation."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from modern.data.clip_folder import IMAGE_SUFFIXES, KINDS, ClipFolder
from modern.data.frames import DataError
from modern.data.keyed import keyed_seed


@dataclass(frozen=True, kw_only=True)
class Source:
    """A tree of clips, e.g. the `masks` folder of MEAD (depth 4) or of Aff-Wild2 (depth 2, repeated 6 times).

    Attributes:
        root: top of the tree.
        depth: clips are the folders this many levels below root; None finds every clip below root.
        repeat: how often each clip counts in an epoch.
        limit: use this many clips at most, chosen by the seed; None uses all.
    """

    root: Path
    depth: int | None = None
    repeat: int = 1
    limit: int | None = None

    def __post_init__(self) -> None:
        lowest = {"depth": 0, "repeat": 1, "limit": 1}
        if any(getattr(self, name) is not None and getattr(self, name) < low for name, low in lowest.items()):
            raise ValueError(f"source {self.root}: needs repeat >= 1, depth >= 0 and limit >= 1, got {self}")

    def clips(self, seed: int) -> list[ClipFolder]:
        """The clips of this source, without repeats, in order of path.

        Raises:
            DataError: if the root is missing or no clip is found.
        """
        if not self.root.is_dir():
            raise DataError(f"source {self.root}: no such folder; mount it or correct the path")
        found = self._search() if self.depth is None else self._at_depth(self.depth)
        clips = sorted(set(found), key=lambda clip: clip.images)
        if not clips:
            where = "below it" if self.depth is None else f"{self.depth} levels below it"
            raise DataError(f"source {self.root}: no clip {where}; expected folders {', '.join(KINDS)}")
        if self.limit is not None and self.limit < len(clips):
            chosen = random.Random(keyed_seed(seed, "limit", str(self.root))).sample(range(len(clips)), self.limit)
            clips = [clips[index] for index in sorted(chosen)]
        return clips

    def _at_depth(self, depth: int) -> Iterable[ClipFolder]:
        folders = self.root.glob("/".join(["*"] * depth)) if depth else [self.root]
        return (ClipFolder.find(folder) for folder in folders if folder.is_dir())

    def _search(self) -> Iterable[ClipFolder]:
        """Folders with `images` in their path that hold image files; the sibling trees lead to the same ones."""
        top = ClipFolder.find(self.root).images if set(KINDS) & set(self.root.parts) else self.root
        for folder in [top, *top.rglob("*")]:
            if folder.is_dir() and "images" in folder.parts and _holds_images(folder):
                yield ClipFolder(folder)


def _holds_images(folder: Path) -> bool:
    return any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.iterdir())


@dataclass(frozen=True)
class Split:
    """Clips for training and for validation; no clip is in both.

    Attributes:
        train: one entry per item of an epoch, so repeated clips occur several times.
        validation: each clip once.
    """

    train: tuple[ClipFolder, ...]
    validation: tuple[ClipFolder, ...]

    def record(self) -> dict[str, list[str]]:
        """What to write down: the image folder of every item."""
        return {name: [str(clip.images) for clip in getattr(self, name)] for name in ("train", "validation")}


def split_clips(sources: Sequence[Source], validation_fraction: float, seed: int) -> Split:
    """Divide the clips of all sources by clip, before repeating them.

    Args:
        sources: trees to search; a clip may belong to one of them only.
        validation_fraction: share of the clips set aside, rounded, 0 <= fraction < 1.
        seed: decides which.

    Raises:
        DataError: if a source has no clip, two sources share one, or no training clip is left.
    """
    if not 0 <= validation_fraction < 1:
        raise ValueError(f"validation_fraction is {validation_fraction}, expected 0 <= fraction < 1")
    repeats: dict[ClipFolder, int] = {}
    for source in sources:
        for clip in source.clips(seed):
            if clip in repeats:
                raise DataError(f"{clip.images}: found by two sources; use `repeat` to let clips count more than once")
            repeats[clip] = source.repeat
    clips = list(repeats)
    order = random.Random(keyed_seed(seed, "split")).sample(clips, len(clips))
    held_back = set(order[: round(validation_fraction * len(clips))])
    train = tuple(clip for clip in clips if clip not in held_back for _ in range(repeats[clip]))
    if not train:
        raise DataError(f"no training clip left of {len(clips)}; add sources or lower validation_fraction")
    return Split(train, tuple(clip for clip in clips if clip in held_back))
