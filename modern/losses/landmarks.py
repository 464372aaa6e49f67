"""Distances between landmark sets (coarse spec 6, 6.1).

Axes: B clips, L landmarks, P pairs. Predictions hold (x, y), ground truth (x, y, confidence), both in [-1,1].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_EPS = 1e-8
_CONTOUR, _CHEEKS = range(17), (5, 6, 10, 11)
_EYES_AND_LIPS = (21, 22, 37, 38, 65, 66, 67, 68, 72, 73, 90, 91)
_LIDS = (24, 30, 40, 46)

# Dense points: upper and lower lid, two pairs per eye; corners of each eye.
_LID_PAIRS = ((23, 31), (25, 29), (41, 45), (39, 47))
_EYE_CORNERS = ((21, 22), (38, 37))
_LIP_PAIRS = tuple(
    zip(
        (65, 72, 73, 85, 71, 70, 69, 87, 88, 89, 103, 86, 74, 75, 76, 66, 94, 93, 92, 104),
        (61, 90, 91, 82, 80, 84, 77, 95, 102, 98, 100, 81, 79, 83, 78, 67, 96, 101, 97, 99),
        strict=True,
    )
)
# Of the 68: jaw and lower lip, nose and upper lip, mouth corners, inner mouth.
_RELATIVE_PAIRS = ((57, 8), (51, 33), (48, 54), (60, 64), (61, 67), (62, 66), (63, 65))


def landmark_weights(count: int, default: float, *groups: tuple[Sequence[int], float]) -> Tensor:
    """Weights [count]: `default`, then each group's own; later groups win."""
    weights_L = torch.full((count,), default)
    for indices, weight in groups:
        weights_L[list(indices)] = weight
    return weights_L


CONTOUR_WEIGHTS_68 = landmark_weights(68, 0.0, (_CONTOUR, 1.5), (_CHEEKS, 3.0))
DENSE_WEIGHTS_105 = landmark_weights(105, 1.5, (_EYES_AND_LIPS, 3.0), (_LIDS, 2.0))


def weighted_l1(pred_BL2: Tensor, gt_BL3: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean absolute coordinate difference, weighted by confidence and by `weights` ([L] or [B,L]).

    Unlike the original, the ground truth is left as it is (defect D24). The weights stay a column beside x and y, as
    there: torch sums a column in another order than a vector.
    """
    if weights is not None:
        gt_BL3 = torch.cat([gt_BL3[..., :2], weights.to(gt_BL3)[..., None] * gt_BL3[..., 2:]], dim=-1)
    gt_N3 = gt_BL3.reshape(-1, 3)
    distance_N = (gt_N3[:, :2] - pred_BL2.reshape(-1, 2)).abs().sum(dim=1)
    return torch.dot(distance_N, gt_N3[:, 2]) / (gt_N3[:, 2].sum() * 2 + _EPS)


def pair_distances(points_BLD: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Euclidean distance in x, y of each pair of points [B,P]; its gradient is NaN where a pair coincides."""
    first, second = (list(indices) for indices in zip(*pairs, strict=True))
    difference_BP2 = points_BLD[:, first, :2] - points_BLD[:, second, :2]
    return (difference_BP2**2).sum(dim=2).sqrt()


def dense_eye_distance(pred_B1052: Tensor, gt_B1053: Tensor) -> Tensor:
    """Half the sum of differences in eye opening relative to twice the eye's width."""
    return (_eye_openings(pred_B1052) - _eye_openings(gt_B1053)).abs().sum() / 2


def _eye_openings(points_BLD: Tensor) -> Tensor:
    width_BP = pair_distances(points_BLD, _EYE_CORNERS).repeat_interleave(2, dim=1)
    return pair_distances(points_BLD, _LID_PAIRS) / (2 * width_BP)


def dense_lip_distance(pred_B1052: Tensor, gt_B1053: Tensor) -> Tensor:
    """Mean difference of the 20 lip openings."""
    return (pair_distances(pred_B1052, _LIP_PAIRS) - pair_distances(gt_B1053, _LIP_PAIRS)).abs().mean()


def relative_landmark(pred_B682: Tensor, gt_B683: Tensor) -> Tensor:
    """Mean difference of seven distances between landmarks of mouth, nose and chin."""
    return (pair_distances(pred_B682, _RELATIVE_PAIRS) - pair_distances(gt_B683, _RELATIVE_PAIRS)).abs().mean()
