"""Action-unit terms (coarse spec 6.2, 6.3). Axes: B clips, L = 105 dense landmarks, 41 action-unit probabilities.

Index lists are the original's; several look like slips there (24 for 47, a group given twice) and are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from modern.losses.landmarks import pair_distances, weighted_l1

_ACTIVE = 0.5
_EMPHASIS = 5.0


class _Region(NamedTuple):
    """Dense landmarks that matter while one of these action units is active."""

    landmarks: Sequence[int]
    units: Sequence[int]


_REGIONS = (
    _Region(range(0, 20), (2, 31, 32)),  # brows
    _Region((1, 3, 5, 6, 8, 9, 11, 13, 15, 16, 18, 19), (0, 27, 28)),  # inner brows
    _Region((0, 1, 2, 4, 7, 8, 10, 11, 12, 14, 17, 18), (1, 29, 30)),  # outer brows
    _Region((20, 21, 22, 23, 24, 25, 26, 27, 33, 36, 37, 38, 39, 40, 41, 42, 43, 49), (4, 33, 34)),  # upper lids
    _Region((21, 22, 28, 29, 30, 31, 32, 34, 35, 37, 38, 44, 45, 46, 47, 48, 50, 51), (3,)),  # lower lids
    _Region(range(20, 52), (5,)),  # eyes
    _Region(range(52, 65), (6, 8, 25, 26, 37, 38)),  # nose
    _Region((65, 66, *range(69, 77), *range(85, 95), 103, 104), (7, 8, 35, 36, 37, 38)),  # upper lip
    _Region(
        (71, 72, 73, 74, 79, 80, 81, 82, 85, 86, *range(88, 94), 97, 98, 99, 100, 103, 104),
        (9, 10, 11, 12, 13, 39, 40),
    ),  # lip corners
    _Region(range(65, 105), range(14, 25)),  # mouth
)
_OUTER_LIPS = (65, 68, 69, 70, 71, 72, 77, 80, 82, 84, 85, 87, 88, 89, 90, 95, 98, 100, 102, 103)

_DISTANCE_GROUPS = (
    ((21, 22, 17, 26), (39, 42, 36, 45)),
    ((19, 37, 23, 43), (20, 38, 24, 44)),
    ((21,), (22,)),
    ((37, 40, 43, 46), (38, 41, 24, 44)),
    ((37, 40, 43, 46), (38, 41, 24, 44)),
    ((27,), (29,)),
    ((60, 62, 32, 33, 34, 41, 46), (65, 63, 50, 51, 52, 48, 54)),
    ((49, 39, 40, 41, 42, 46, 47), (54, 48, 48, 48, 54, 54, 54)),
    ((39, 40, 41, 42, 46, 47), (48, 48, 48, 54, 54, 54)),
    ((48,), (54,)),
    ((51,), (57,)),
    ((48, 51, 50, 52), (54, 57, 58, 56)),
)


def feature_distance(features: Tensor, reference: Tensor) -> Tensor:
    """Mean squared difference of two feature or probability tensors of one shape."""
    return F.mse_loss(features, reference)


def au_landmark_weights(probability_B41: Tensor) -> Tensor:
    """Weights [B,105]: a region with an active unit gets 5 / its size, later regions win; outer lips a fifth."""
    weights_BL = probability_B41.new_ones(len(probability_B41), 105)
    for region in _REGIONS:
        active_B = (probability_B41[:, list(region.units)] >= _ACTIVE).any(dim=1)
        emphasised = weights_BL.index_fill(1, _index(region.landmarks, weights_BL), _EMPHASIS / len(region.landmarks))
        weights_BL = torch.where(active_B[:, None], emphasised, weights_BL)
    weights_BL[:, list(_OUTER_LIPS)] /= _EMPHASIS
    return weights_BL


def au_landmark(pred_B1052: Tensor, gt_B1053: Tensor, probability_B41: Tensor) -> Tensor:
    """Landmark distance with emphasis on the regions of active units; the confidence is not used."""
    certain = torch.cat([gt_B1053[..., :2], torch.ones_like(gt_B1053[..., :1])], dim=-1)
    return _EMPHASIS * weighted_l1(pred_B1052, certain, au_landmark_weights(probability_B41))


def au_distance(pred_B682: Tensor, gt_B683: Tensor) -> Tensor:
    """Sum over 12 groups of the mean difference of distances between landmarks that action units move."""
    total = pred_B682.new_zeros(())
    for first, second in _DISTANCE_GROUPS:
        pairs = tuple(zip(first, second, strict=True))
        total = total + (pair_distances(gt_B683, pairs) - pair_distances(pred_B682, pairs)).abs().mean()
    return total


def _index(indices: Sequence[int], like: Tensor) -> Tensor:
    return torch.tensor(list(indices), device=like.device)
