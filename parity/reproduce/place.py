"""Where a run finds its data and leaves its files, and who keeps a clip company in a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Positions of the clip under observation (0) and its companions in one batch.
COMPANY: Mapping[str, list[int]] = {
    "alone": [0],
    "beside": [0, 1, 2],
    "permuted": [2, 0, 1],
    "repeated": [0, 0, 0],
}


@dataclass(frozen=True)
class Place:
    """Folders of a run: `clips` as `fixtures.clip_tree` writes it; `scratch` is kept between its processes."""

    clips: Path
    scratch: Path
