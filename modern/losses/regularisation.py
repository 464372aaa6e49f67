"""What codes are pulled towards (coarse spec 6). Axes: B clips."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def half_sum_of_squares(code: Tensor) -> Tensor:
    """Half the sum over batch and entries; grows with the batch, as in the original."""
    return (code**2).sum() / 2


def grey_light(light_B93: Tensor) -> Tensor:
    """Mean squared difference of each light coefficient from its mean over the colours."""
    return ((light_B93.mean(dim=2, keepdim=True) - light_B93) ** 2).mean()


def jaw_roll(euler_jaw_B3: Tensor) -> Tensor:
    """Half the sum of squared roll angles."""
    return half_sum_of_squares(euler_jaw_B3[:, 2])


def jaw_close(euler_jaw_B3: Tensor) -> Tensor:
    """Half the sum of squared angles by which the jaw is closed beyond rest."""
    return half_sum_of_squares(F.relu(-euler_jaw_B3[:, 0]))
