"""Conversions between rotation representations (angles in radians)."""
import torch


def euler_to_quaternion(r):
    """r [B,3] = rotations about x, y, z -> unit quaternion [B,4] = w, x, y, z."""
    cx, cy, cz = torch.cos(r[..., 0] / 2), torch.cos(r[..., 1] / 2), torch.cos(r[..., 2] / 2)
    sx, sy, sz = torch.sin(r[..., 0] / 2), torch.sin(r[..., 1] / 2), torch.sin(r[..., 2] / 2)
    quaternion = torch.zeros_like(r.repeat(1, 2))[..., :4]
    quaternion[..., 0] += cx * cy * cz - sx * sy * sz
    quaternion[..., 1] += cx * sy * sz + cy * cz * sx
    quaternion[..., 2] += cx * cz * sy - sx * cy * sz
    quaternion[..., 3] += cx * cy * sz + sx * cz * sy
    return quaternion


def quaternion_to_angle_axis(quaternion):
    """quaternion [B,4] = w, x, y, z -> axis times angle [B,3]."""
    w, xyz = quaternion[..., 0], quaternion[..., 1:]
    sin_squared = (xyz * xyz).sum(-1)
    sin_theta = torch.sqrt(sin_squared)
    two_theta = 2.0 * torch.where(w < 0.0, torch.atan2(-sin_theta, -w), torch.atan2(sin_theta, w))
    k = torch.where(sin_squared > 0.0, two_theta / sin_theta, 2.0 * torch.ones_like(sin_theta))
    return xyz * k[..., None]


def batch_euler2axis(r):
    """Euler angles [B,3] -> axis angle [B,3]."""
    return quaternion_to_angle_axis(euler_to_quaternion(r))
