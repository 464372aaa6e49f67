"""The head model and its textures as one frozen record of tensors.

Axes: V vertices, F faces, U texture coordinates, xyz in metres (y up, z towards the viewer, x to the subject's left).
Textures are BGR in 0..255 units, as in the original files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modern.asset_folder import TextureSpace, read_folder

# Sizes by field; a letter stands for a size that must be the same wherever it occurs.
_SHAPES: dict[str, tuple[int | str, ...]] = {
    "v_template": ("V", 3),
    "faces": ("F", 3),
    "uvcoords": ("U", 2),
    "uvfaces": ("F", 3),
    "shapedirs": ("V", 3, 150),
    "posedirs": ("V", 3, 36),
    "J_regressor": (5, "V"),
    "lbs_weights": ("V", 5),
    "parents": (5,),
    "static_lmk_faces_idx": (51,),
    "static_lmk_bary_coords": (51, 3),
    "dynamic_lmk_faces_idx": (79, 17),
    "dynamic_lmk_bary_coords": (79, 17, 3),
    "full_lmk_faces_idx": (1, 68),
    "full_lmk_bary_coords": (1, 68, 3),
    "mp_lmk_face_idx": (105,),
    "mp_lmk_b_coords": (105, 3),
    "landmark_indices": (105,),
    "mask_face": ("n_face",),
    "mask_forehead": ("n_forehead",),
    "tex_mean_bgr": (512, 512, 3),
    "tex_dir_bgr": (512, 512, 3, 50),
    "uv_face_eye_mask": (256, 256),
    "uv_face_mask": (256, 256),
    "fixed_uv_dis": (256, 256),
}
# Index fields and the size that bounds them.
_INDICES = {
    "faces": "V",
    "uvfaces": "U",
    "static_lmk_faces_idx": "F",
    "dynamic_lmk_faces_idx": "F",
    "full_lmk_faces_idx": "F",
    "mp_lmk_face_idx": "F",
    "mask_face": "V",
    "mask_forehead": "V",
}
_TEXEL_REPEAT = 16  # a compact texture basis has 32 x 32 cells of 16 x 16 equal texels


@dataclass(frozen=True, kw_only=True)
class HeadAssets:
    """Everything the model reads about heads in general; all tensors on the CPU, float32 or int64.

    Attributes:
        v_template: [V,3] mean head, metres.
        faces: [F,3] vertex indices.
        uvcoords: [U,2] texture coordinates, v up.
        uvfaces: [F,3] indices into uvcoords, corner by corner as `faces`.
        shapedirs: [V,3,150] 100 shape then 50 expression directions, metres.
        posedirs: [V,3,36] pose correctives, metres.
        J_regressor: [5,V] joints (root, neck, jaw, left eye, right eye) from vertices.
        lbs_weights: [V,5] skinning weights, rows sum to 1.
        parents: [5] parent joint, -1 for the root.
        static_lmk_faces_idx: [51] face of each inner landmark.
        static_lmk_bary_coords: [51,3] its barycentric coordinates.
        dynamic_lmk_faces_idx: [79,17] contour landmarks by yaw: rows 0..39 degrees, then -1..-39.
        dynamic_lmk_bary_coords: [79,17,3] their barycentric coordinates.
        full_lmk_faces_idx: [1,68] fixed landmarks, contour included.
        full_lmk_bary_coords: [1,68,3] their barycentric coordinates.
        mp_lmk_face_idx: [105] face of each dense (mediapipe) landmark.
        mp_lmk_b_coords: [105,3] its barycentric coordinates.
        landmark_indices: [105] which of mediapipe's points the dense landmarks are.
        mask_face: [n] vertices of the face region.
        mask_forehead: [m] vertices of the forehead region.
        tex_mean_bgr: [512,512,3] mean texture, 0..255.
        tex_dir_bgr: [512,512,3,50] texture directions, 0..255 units.
        uv_face_eye_mask: [256,256] face and eyes in texture space, 0..1.
        uv_face_mask: [256,256] face without eyes in texture space, 0..1.
        fixed_uv_dis: [256,256] displacement along the normal that every head has, metres; detail stage only.

    Raises:
        ValueError: on a wrong shape, a non-finite value, or an index out of range, naming the field.
    """

    v_template: Tensor
    faces: Tensor
    uvcoords: Tensor
    uvfaces: Tensor
    shapedirs: Tensor
    posedirs: Tensor
    J_regressor: Tensor
    lbs_weights: Tensor
    parents: Tensor
    static_lmk_faces_idx: Tensor
    static_lmk_bary_coords: Tensor
    dynamic_lmk_faces_idx: Tensor
    dynamic_lmk_bary_coords: Tensor
    full_lmk_faces_idx: Tensor
    full_lmk_bary_coords: Tensor
    mp_lmk_face_idx: Tensor
    mp_lmk_b_coords: Tensor
    landmark_indices: Tensor
    mask_face: Tensor
    mask_forehead: Tensor
    tex_mean_bgr: Tensor
    tex_dir_bgr: Tensor
    uv_face_eye_mask: Tensor
    uv_face_mask: Tensor
    fixed_uv_dis: Tensor

    def __post_init__(self) -> None:
        sizes: dict[str, int] = {}
        for name, shape in _SHAPES.items():
            _check_shape(name, getattr(self, name), shape, sizes)
        for name, bound in _INDICES.items():
            _check_indices(name, getattr(self, name), sizes[bound])


def _check_shape(name: str, tensor: Tensor, shape: tuple[int | str, ...], sizes: dict[str, int]) -> None:
    if tensor.ndim == len(shape):
        letters = {key: size for key, size in zip(shape, tensor.shape, strict=True) if isinstance(key, str)}
        for letter, size in letters.items():
            sizes.setdefault(letter, size)
    wanted = tuple(sizes.get(key, -1) if isinstance(key, str) else key for key in shape)
    if tuple(tensor.shape) != wanted:
        raise ValueError(f"head asset {name}: shape {tuple(tensor.shape)}, expected {shape} = {wanted}")
    if not torch.isfinite(tensor).all():
        raise ValueError(f"head asset {name}: contains NaN or infinity")


def _check_indices(name: str, tensor: Tensor, bound: int) -> None:
    if tensor.numel() and (int(tensor.min()) < 0 or int(tensor.max()) >= bound):
        raise ValueError(f"head asset {name}: index outside 0..{bound - 1} ({int(tensor.min())}..{int(tensor.max())})")


def load_head(path: Path | str, tex_dir_low: Tensor | None = None, texture: TextureSpace = "FLAME") -> HeadAssets:
    """Read a head from a compact `.npz` or from a folder holding the original files (coarse spec 10b).

    Args:
        path: the file or folder. Pickles inside a folder are read as data and never executed.
        tex_dir_low: [32,32,3,50] texture basis for a compact file without one; each cell becomes 16 x 16 equal texels.
        texture: which texture space of a folder is read; a compact file holds one already.

    Raises:
        ValueError: if a file, key, shape or index is wrong, or a pickle holds anything but arrays.
        FileNotFoundError: if `path` or one of the folder's files is missing.
    """
    path = Path(path)
    arrays = read_folder(path, texture) if path.is_dir() else _read_compact(path, tex_dir_low)
    return head_from_arrays(arrays)


def head_from_arrays(arrays: Mapping[str, Any]) -> HeadAssets:
    """Build a head from arrays named as the fields; floats become float32, integers int64.

    Raises:
        ValueError: as `HeadAssets`, or if a field is missing.
    """
    names = [field.name for field in fields(HeadAssets)]
    if missing := [name for name in names if name not in arrays]:
        raise ValueError(f"head assets lack {', '.join(missing)}")
    return HeadAssets(**{name: _tensor(arrays[name]) for name in names})


def _tensor(values: Any) -> Tensor:
    tensor = torch.as_tensor(values)
    return tensor.to(torch.float32 if tensor.is_floating_point() else torch.int64).contiguous()


def _read_compact(path: Path, tex_dir_low: Tensor | None) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as file:
        arrays: dict[str, Any] = dict(file)
    low = arrays.pop("tex_dir_low", None) if tex_dir_low is None else tex_dir_low
    if low is None:
        raise ValueError(f"{path} holds no texture basis (tex_dir_low): pass one of shape [32,32,3,50]")
    arrays.setdefault("fixed_uv_dis", np.zeros((256, 256), dtype=np.float32))  # files made for the coarse stage
    arrays["tex_mean_bgr"] = arrays.pop("tex_mean_bgr_u8").astype(np.float32)
    for name in ("uv_face_eye_mask", "uv_face_mask"):
        arrays[name] = arrays.pop(f"{name}_u8").astype(np.float32) / np.float32(255)
    cells = torch.as_tensor(low).to(torch.float32)
    arrays["tex_dir_bgr"] = cells.repeat_interleave(_TEXEL_REPEAT, 0).repeat_interleave(_TEXEL_REPEAT, 1)
    return arrays
