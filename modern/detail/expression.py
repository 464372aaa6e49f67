"""Where the expression code comes from: in the original, from EMOCA, a model of its own. Axes: B images."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn


class ExpressionSource(Protocol):
    """Anything that reads 50 FLAME expression coefficients off images."""

    def __call__(self, image_B3HW: Tensor) -> Tensor:
        """Expression codes [B,50]."""
        ...


class FixedExpression(nn.Module):
    """Stand-in that has been told the answer.

    Args:
        exp_B50: one code per image of every batch.
    """

    def __init__(self, exp_B50: Tensor) -> None:
        super().__init__()
        self.exp_B50: Tensor
        self.register_buffer("exp_B50", exp_B50.clone(), persistent=False)

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """The codes.

        Raises:
            ValueError: if there are more or fewer images than codes.
        """
        if len(image_B3HW) != len(self.exp_B50):
            raise ValueError(f"{len(image_B3HW)} images, but {len(self.exp_B50)} expression codes were given")
        return self.exp_B50
