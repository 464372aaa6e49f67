"""What the coarse and the detail model have in common: one way to be asked, whichever is behind it.

Both are ordinary classes whose methods may be overridden; these protocols only say what callers rely on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from torch import Tensor

if TYPE_CHECKING:
    from modern.detail.model import DetailModel
    from modern.detail.step import DetailStep
    from modern.model import CoarseModel
    from modern.train.step import CoarseStep

Codes = TypeVar("Codes", contravariant=True)
Encoding = TypeVar("Encoding", covariant=True)
Decoding = TypeVar("Decoding", covariant=True)
Prediction = TypeVar("Prediction", covariant=True)
Batch = TypeVar("Batch", contravariant=True)


class HeadModel(Protocol[Codes, Encoding, Decoding, Prediction]):
    """Images to codes to a head."""

    def encode(self, images: Tensor, /) -> Encoding:
        """Run the networks; the result has the field `codes`."""
        ...

    def decode(self, codes: Codes, /) -> Decoding:
        """Head, texture and picture of codes."""
        ...

    def predict(self, images: Tensor, /) -> Prediction:
        """Both in evaluation mode and without gradients; the mode is left as it was."""
        ...


class Losses(Protocol):
    """What a step yields."""

    @property
    def losses(self) -> dict[str, Tensor]:
        """Weighted terms in order, `all_loss` last."""
        ...


class TrainingStep(Protocol[Batch]):
    """From a batch to losses, without changing a weight."""

    def losses(self, batch: Batch, /) -> Losses:
        """The losses of a batch."""
        ...


if TYPE_CHECKING:

    def _models(coarse: CoarseModel, detail: DetailModel) -> list[HeadModel[Any, Any, Any, Any]]:
        return [coarse, detail]

    def _steps(coarse: CoarseStep, detail: DetailStep) -> list[TrainingStep[Any]]:
        return [coarse, detail]
