"""What the trainings of both subjects are built from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from fixtures import seeded
from modern.assets import load_head
from parity.reproduce.place import Place
from parity.reproduce.run import Run
from parity.subject import DetailSetup
from parity.weights import audited_detail_weights, seeded_weights
from parity.worker import HEAD

IMAGES = 2  # of an identity in a step: the discriminator cannot do with one (detail spec 2.3)
_CONSTRUCTED = ("E_detail", "D_detail", "D", "VGG19")


def coarse_weights(place: Place) -> dict[str, dict[str, Tensor]]:
    """Seeded weights of the frozen networks; BiViT starts as its constructor makes it."""
    return place.weights("coarse", lambda: {name: part for name, part in seeded_weights().items() if name != "BiViT"})


def detail_weights(place: Place) -> dict[str, dict[str, Tensor]]:
    """Seeded weights of the frozen networks; what is trained starts as its constructor makes it."""
    return place.weights(
        "detail", lambda: {name: part for name, part in audited_detail_weights().items() if name not in _CONSTRUCTED}
    )


def detail_setup(run: Run, place: Place, overrides: Mapping[str, Any], files: Path | None = None) -> DetailSetup:
    """How both detail trainings are built; `files` as of `DetailSetup`."""
    return DetailSetup(
        weights=detail_weights(place),
        head=load_head(HEAD),
        expression_B50=seeded.uniform("exp", (IMAGES, 50), -0.6, 0.6),
        overrides=overrides,
        device=run.device,
        image_size=run.raster,
        files=files,
    )
