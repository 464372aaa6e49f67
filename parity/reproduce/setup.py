"""What both detail trainings are built from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fixtures import seeded
from modern.assets import load_head
from parity.reproduce.run import Run
from parity.subject import DetailSetup
from parity.weights import audited_detail_weights
from parity.worker import HEAD

IMAGES = 2  # of an identity in a step: the discriminator cannot do with one (detail spec 2.3)
_CONSTRUCTED = ("E_detail", "D_detail", "D", "VGG19")


def detail_setup(run: Run, overrides: Mapping[str, Any]) -> DetailSetup:
    """Frozen networks from seeded weights; what is trained starts as its constructor makes it."""
    weights = {name: part for name, part in audited_detail_weights().items() if name not in _CONSTRUCTED}
    return DetailSetup(
        weights=weights,
        head=load_head(HEAD),
        expression_B50=seeded.uniform("exp", (IMAGES, 50), -0.6, 0.6),
        overrides=overrides,
        device=run.device,
    )
