"""FLAME: a posed head mesh and its landmarks from shape, expression and pose (coarse spec 5.1).

Axes: B heads, V vertices, F faces, L landmarks, J = 5 joints (root, neck, jaw, left eye, right eye). Metres, radians.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modern.assets import HeadAssets
from modern.rotation import axis_angle_to_matrix

_MAX_YAW = 39  # degrees; the contour table has rows for 0..39, then -1..-39


@dataclass(frozen=True, kw_only=True, slots=True)
class Mesh:
    """Vertices and landmarks, in model space or projected.

    Attributes:
        vertices_BV3: the mesh.
        landmarks2d: [B,68,3], projected [B,68,2]; the contour follows the visible outline.
        landmarks3d_B683: fixed points.
        landmarks_dense: [B,105,3], projected [B,105,2].
    """

    vertices_BV3: Tensor
    landmarks2d: Tensor
    landmarks3d_B683: Tensor
    landmarks_dense: Tensor


class Flame(nn.Module):
    """The head model; nothing in it is trained."""

    def __init__(self, head: HeadAssets) -> None:
        super().__init__()
        self.parents = tuple(head.parents.tolist())
        self.posedirs: Tensor
        self.v_template: Tensor
        self.faces: Tensor
        self.shapedirs: Tensor
        self.J_regressor: Tensor
        self.lbs_weights: Tensor
        self.register_buffer("posedirs", head.posedirs.flatten(0, 1), persistent=False)
        # Column-major, as the sparse regressor of the original file is read: with several heads at once the layout
        # decides in which order a product is summed.
        self.register_buffer("J_regressor", head.J_regressor.T.contiguous().T, persistent=False)
        for name in ("v_template", "faces", "shapedirs", "lbs_weights"):
            self.register_buffer(name, getattr(head, name), persistent=False)
        self.static = _Embedding(head.faces, head.static_lmk_faces_idx, head.static_lmk_bary_coords)
        self.contour = _Embedding(head.faces, head.dynamic_lmk_faces_idx, head.dynamic_lmk_bary_coords)
        self.full = _Embedding(head.faces, head.full_lmk_faces_idx[0], head.full_lmk_bary_coords[0])
        self.dense = _Embedding(head.faces, head.mp_lmk_face_idx, head.mp_lmk_b_coords)

    def forward(self, shape_B100: Tensor, exp_B50: Tensor, pose_B6: Tensor) -> Mesh:
        """Mesh and landmarks in model space, metres."""
        rotation_BJ33 = self._rotations(pose_B6)
        vertices_BV3 = self._skinned(torch.cat([shape_B100, exp_B50], dim=1), rotation_BJ33)
        return Mesh(
            vertices_BV3=vertices_BV3,
            landmarks2d=self._outline(vertices_BV3, rotation_BJ33[:, 0]),
            landmarks3d_B683=self.full(vertices_BV3),
            landmarks_dense=self.dense(vertices_BV3),
        )

    def _rotations(self, pose_B6: Tensor) -> Tensor:
        """Root and jaw turn; neck and eyes rest."""
        root, jaw = pose_B6.split(3, dim=1)
        rest = torch.zeros_like(root)
        axis_angle_BJ3 = torch.stack([root, rest, jaw, rest, rest], dim=1)
        return axis_angle_to_matrix(axis_angle_BJ3.view(-1, 3)).view(-1, 5, 3, 3)

    def _skinned(self, betas_BK: Tensor, rotation_BJ33: Tensor) -> Tensor:
        batch = len(betas_BK)
        shaped_BV3 = self.v_template + torch.einsum("bl,mkl->bmk", betas_BK, self.shapedirs)
        joints_BJ3 = torch.einsum("bik,ji->bjk", shaped_BV3, self.J_regressor)
        identity = torch.eye(3, dtype=betas_BK.dtype, device=betas_BK.device)
        pose_feature = (rotation_BJ33[:, 1:] - identity).view(batch, -1)
        posed_BV3 = (pose_feature @ self.posedirs.T).view(batch, -1, 3) + shaped_BV3
        relative_BJ44 = self._chain(rotation_BJ33, joints_BJ3)
        weights_BVJ = self.lbs_weights.expand(batch, -1, -1)  # one product per head, for the same reason
        transform_BV44 = (weights_BVJ @ relative_BJ44.flatten(2)).view(batch, -1, 4, 4)
        homogeneous = torch.cat([posed_BV3, torch.ones_like(posed_BV3[..., :1])], dim=2)
        return (transform_BV44 @ homogeneous[..., None])[:, :, :3, 0]

    def _chain(self, rotation_BJ33: Tensor, joints_BJ3: Tensor) -> Tensor:
        """Transform of each joint relative to its rest position -> [B,J,4,4]."""
        parents = list(self.parents[1:])
        offset_BJ3 = torch.cat([joints_BJ3[:, :1], joints_BJ3[:, 1:] - joints_BJ3[:, parents]], dim=1)
        local = F.pad(torch.cat([rotation_BJ33, offset_BJ3[..., None]], dim=3), (0, 0, 0, 1))
        local[..., 3, 3] = 1
        chain = [local[:, 0]]
        for joint, parent in enumerate(parents, start=1):
            chain.append(chain[parent] @ local[:, joint])
        world_BJ44 = torch.stack(chain, dim=1)
        rest = world_BJ44 @ F.pad(joints_BJ3, (0, 1))[..., None]
        return world_BJ44 - F.pad(rest, (3, 0))

    def _outline(self, vertices_BV3: Tensor, root_B33: Tensor) -> Tensor:
        """17 contour points chosen by the head's yaw, then 51 fixed ones -> [B,68,3]."""
        row_B = contour_row(root_B33)
        return torch.cat([self.contour(vertices_BV3, row_B), self.static(vertices_BV3)], dim=1)


def contour_row(root_B33: Tensor) -> Tensor:
    """Row of the contour table for each root rotation [B,3,3]; a choice, so without gradient."""
    root_B33 = root_B33.detach()
    yaw = torch.atan2(-root_B33[:, 2, 0], (root_B33[:, 0, 0] ** 2 + root_B33[:, 1, 0] ** 2).sqrt())
    degrees = (yaw * 180.0 / math.pi).clamp(max=_MAX_YAW).round().long()
    return torch.where(degrees >= 0, degrees, (_MAX_YAW - degrees).clamp(max=2 * _MAX_YAW))


class _Embedding(nn.Module):
    """Points fixed on the surface by face and barycentric coordinates; optionally several rows to choose from."""

    def __init__(self, faces_F3: Tensor, face: Tensor, barycentric: Tensor) -> None:
        super().__init__()
        self.corners: Tensor
        self.barycentric: Tensor
        self.register_buffer("corners", faces_F3[face], persistent=False)  # [..., L, 3] vertex ids
        self.register_buffer("barycentric", barycentric.clone(), persistent=False)

    def forward(self, vertices_BVD: Tensor, row_B: Tensor | None = None) -> Tensor:
        """The points [B,L,D], from row `row_B` of the table if it has several."""
        batch = torch.arange(len(vertices_BVD), device=vertices_BVD.device)[:, None, None]
        corners, weights = self.corners, self.barycentric
        if row_B is not None:
            corners, weights = corners[row_B], weights[row_B]
        corners_BL3D = vertices_BVD[batch, corners]
        return torch.einsum("blfi,blf->bli", corners_BL3D, weights.expand(*corners_BL3D.shape[:3]))
