"""What only the original DECA uses (deca_base spec 9). Axes: B images, L = 68 landmarks, H W rows and columns."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from modern.losses.landmarks import landmark_weights, pair_distances

_EYE_PAIRS = ((37, 41), (38, 40), (43, 47), (44, 46))
_LIP_PAIRS = ((61, 67), (62, 66), (63, 65))

WEIGHTS_68 = landmark_weights(
    68,
    1.0,
    ((5, 6, 10, 11), 2.0),
    (range(27, 36), 1.5),
    ((30, 31, 35), 3.0),
    (range(48, 68), 1.5),
    ((48, 54), 3.0),
)


def unweighted_l1(pred_BL2: Tensor, gt_BL2: Tensor) -> Tensor:
    """Mean absolute coordinate difference."""
    return (pred_BL2 - gt_BL2).abs().mean()


def eye_openings(points_B68D: Tensor) -> Tensor:
    """Distance of the lids at four places [B,4]."""
    return pair_distances(points_B68D, _EYE_PAIRS)


def lip_openings(points_B68D: Tensor) -> Tensor:
    """Distance of the inner lips at three places [B,3]."""
    return pair_distances(points_B68D, _LIP_PAIRS)


def eye_distance(pred_B682: Tensor, gt_B683: Tensor) -> Tensor:
    """Mean difference of the eye openings."""
    return (eye_openings(pred_B682) - eye_openings(gt_B683)).abs().mean()


def lip_distance(pred_B682: Tensor, gt_B683: Tensor) -> Tensor:
    """Mean difference of the lip openings."""
    return (lip_openings(pred_B682) - lip_openings(gt_B683)).abs().mean()


def shading_smoothness(shading_B3HW: Tensor) -> Tensor:
    """Mean squared horizontal plus mean squared vertical difference of neighbouring interior pixels."""
    dx = shading_B3HW[:, :, 1:-1, 1:] - shading_B3HW[:, :, 1:-1, :-1]
    dy = shading_B3HW[:, :, 1:, 1:-1] - shading_B3HW[:, :, :-1, 1:-1]
    return (dx**2).mean() + (dy**2).mean()


def eroded(image_B1HW: Tensor, size: int = 5) -> Tensor:
    """Binary erosion of the non-zero pixels by a square; what lies outside the picture is not set."""
    unset = (image_B1HW == 0).to(image_B1HW.dtype)
    padded = F.pad(unset, [size // 2] * 4, value=1.0)
    return 1 - F.max_pool2d(padded, size, stride=1)


def overlay(shaded_B3HW: Tensor, image_B3HW: Tensor, mask_B1HW: Tensor) -> Tensor:
    """The shaded face over the photograph, for the identity term.

    The mask is not limited to the head, so background pixels show the centre of the texture map, as in the original.
    """
    return shaded_B3HW * mask_B1HW + image_B3HW * (1 - mask_B1HW)


def binary_mask(mask_B3HW: Tensor) -> Tensor:
    """The data set's mask 0/1/2 as the 0/1 mask that DECA expects."""
    return torch.clamp(mask_B3HW, max=1.0)
