"""Rotations: axis-angle to matrix, Euler angles to axis-angle. Axes: N rotations; radians."""

from __future__ import annotations

import torch
from torch import Tensor

_EPS = 1e-8


def axis_angle_to_matrix(axis_angle_N3: Tensor) -> Tensor:
    """Rodrigues' formula R = I + sin K + (1 - cos) K^2 -> [N,3,3] (coarse spec 5.1).

    1e-8 is added to each component for the norm only, so zero gives exactly the identity.
    """
    angle_N1 = torch.linalg.vector_norm(axis_angle_N3 + _EPS, dim=1, keepdim=True)
    x, y, z = (axis_angle_N3 / angle_N1).unbind(dim=1)
    zero = torch.zeros_like(x)
    skew_N33 = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).view(-1, 3, 3)
    sin_N11, cos_N11 = angle_N1.sin()[..., None], angle_N1.cos()[..., None]
    identity = torch.eye(3, dtype=axis_angle_N3.dtype, device=axis_angle_N3.device)
    return identity + sin_N11 * skew_N33 + (1 - cos_N11) * (skew_N33 @ skew_N33)


def euler_to_axis_angle(euler_N3: Tensor) -> Tensor:
    """Euler angles (x, y, z) to axis-angle by way of a quaternion -> [N,3] (deca_base spec 2).

    Finite gradients everywhere; the original's is NaN at zero.
    """
    half = euler_N3 / 2
    (cx, cy, cz), (sx, sy, sz) = half.cos().unbind(1), half.sin().unbind(1)
    w = cx * cy * cz - sx * sy * sz
    vector_N3 = torch.stack(
        [cx * sy * sz + cy * cz * sx, cx * cz * sy - sx * cy * sz, cx * cy * sz + sx * cz * sy], dim=1
    )
    square = (vector_N3**2).sum(dim=1)
    safe = torch.where(square > 0, square, torch.ones_like(square))
    sin = safe.sqrt()
    half_angle = torch.where(w < 0, torch.atan2(-sin, -w), torch.atan2(sin, w))
    factor = torch.where(square > 0, 2 * half_angle / sin, torch.full_like(square, 2.0))
    return vector_N3 * factor[:, None]
