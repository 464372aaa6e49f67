"""The head model from its original files, in the formats of FLAME and DECA (coarse spec 10b, deca spec 11).

Axes: V vertices, F faces, U texture coordinates.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from modern.safe_pickle import load_npy_object, load_pickle

TextureSpace = Literal["FLAME", "BFM"]
_N_SHAPE_STORED = 300  # expression directions start behind all stored shape directions, used or not
_N_SHAPE, _N_EXPRESSION, _N_TEXTURE = 100, 50, 50
_MASK_SIZE = 256
_TEXTURE_SIZE = 512


def read_folder(folder: Path, texture: TextureSpace = "FLAME") -> dict[str, Any]:
    """Read every array of `HeadAssets`, named as its fields, from the original files in `folder`.

    Args:
        folder: holds the files under their usual names.
        texture: which of the two texture spaces is read.

    Raises:
        ValueError: if a pickle is refused, a key is missing, or mesh and template disagree.
        FileNotFoundError: if one of the files is missing.
    """
    arrays = _read_model(folder / "generic_model.pkl") | _read_landmarks(folder) | _read_texture(folder, texture)
    uvcoords, uvfaces, faces = _read_template(folder / "head_template.obj")
    if not np.array_equal(faces, arrays["faces"]):
        raise ValueError(f"{folder}: the faces of head_template.obj are not those of generic_model.pkl")
    masks = _require(folder / "FLAME_masks.pkl", load_pickle(folder / "FLAME_masks.pkl"), "face", "forehead")
    return arrays | {
        "uvcoords": uvcoords,
        "uvfaces": uvfaces,
        "mask_face": masks["face"],
        "mask_forehead": masks["forehead"],
        "uv_face_eye_mask": _read_mask(folder / "uv_face_eye_mask.png"),
        "uv_face_mask": _read_mask(folder / "uv_face_mask.png"),
        "fixed_uv_dis": np.load(folder / "fixed_displacement_256.npy", allow_pickle=False),
    }


def _require(path: Path, values: Any, *keys: str) -> dict[str, Any]:
    """`values` if it is a mapping with `keys`."""
    missing = [key for key in keys if key not in values] if isinstance(values, dict) else list(keys)
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    return values


def _read_model(path: Path) -> dict[str, Any]:
    keys = ("f", "v_template", "shapedirs", "posedirs", "J_regressor", "kintree_table", "weights")
    model = _require(path, load_pickle(path), *keys)
    directions = np.asarray(model["shapedirs"])
    expression = directions[..., _N_SHAPE_STORED : _N_SHAPE_STORED + _N_EXPRESSION]
    parents = np.asarray(model["kintree_table"])[0].astype(np.int64)
    parents[0] = -1  # stored as the largest unsigned number
    return {
        "v_template": model["v_template"],
        "faces": np.asarray(model["f"]).astype(np.int64),
        "shapedirs": np.concatenate([directions[..., :_N_SHAPE], expression], axis=-1),
        "posedirs": model["posedirs"],
        "J_regressor": model["J_regressor"],
        "lbs_weights": model["weights"],
        "parents": parents,
    }


def _read_landmarks(folder: Path) -> dict[str, Any]:
    names = [f"{part}_lmk_{what}" for part in ("static", "dynamic", "full") for what in ("faces_idx", "bary_coords")]
    path = folder / "landmark_embedding.npy"
    embedding = _require(path, load_npy_object(path), *names)
    landmarks = {name: embedding[name] for name in names}
    landmarks["full_lmk_faces_idx"] = np.reshape(landmarks["full_lmk_faces_idx"], (1, -1))
    landmarks["full_lmk_bary_coords"] = np.reshape(landmarks["full_lmk_bary_coords"], (1, -1, 3))
    with np.load(folder / "mediapipe_landmark_embedding.npz", allow_pickle=False) as dense:
        return landmarks | {
            "mp_lmk_face_idx": dense["lmk_face_idx"].astype(np.int64),
            "mp_lmk_b_coords": dense["lmk_b_coords"],
            "landmark_indices": dense["landmark_indices"].astype(np.int64),
        }


def _read_texture(folder: Path, texture: TextureSpace) -> dict[str, Any]:
    """Mean [512,512,3] and directions [512,512,3,50] in units of 0..255, BGR; BFM's file has units of 0..1."""
    if texture == "FLAME":
        with np.load(folder / "FLAME_texture.npz", allow_pickle=False) as file:
            return {"tex_mean_bgr": file["mean"], "tex_dir_bgr": file["tex_dir"][..., :_N_TEXTURE]}
    path, shape = folder / "FLAME_albedo_from_BFM.npz", (_TEXTURE_SIZE, _TEXTURE_SIZE, 3)
    with np.load(path, allow_pickle=False) as file:
        if not {"MU", "PC"} <= set(file.files):
            raise ValueError(f"{path} lacks MU or PC")
        mean, directions = file["MU"], file["PC"][..., :_N_TEXTURE]
    if mean.size != np.prod(shape) or directions.size != mean.size * _N_TEXTURE:
        raise ValueError(f"{path}: MU has shape {mean.shape} and PC {directions.shape}, expected {np.prod(shape)} rows")
    return {"tex_mean_bgr": 255.0 * mean.reshape(shape), "tex_dir_bgr": 255.0 * directions.reshape(*shape, _N_TEXTURE)}


def _read_mask(path: Path) -> np.ndarray:
    """Red channel / 255 as [256,256] float32, nearest resampling."""
    with Image.open(path) as image:
        red = np.asarray(image.convert("RGB"))[..., 0]
    rows, columns = (np.arange(_MASK_SIZE) * size // _MASK_SIZE for size in red.shape)
    return red[np.ix_(rows, columns)].astype(np.float32) / np.float32(255)


def _read_template(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(uvcoords [U,2], uvfaces [F,3], faces [F,3]) of a triangle mesh with texture coordinates."""
    coordinates: list[list[float]] = []
    corners: list[list[list[int]]] = []
    for line in path.read_text().splitlines():
        kind, *fields = line.split() or [""]
        if kind == "vt":
            coordinates.append([float(value) for value in fields[:2]])
        elif kind == "f":
            corners.append([[int(index) for index in field.split("/")[:2]] for field in fields])
    try:
        indices = np.array(corners, dtype=np.int64).reshape(-1, 3, 2) - 1
    except ValueError as error:
        raise ValueError(f"{path}: every face must be a triangle written as v/vt v/vt v/vt") from error
    return np.array(coordinates, dtype=np.float32), indices[..., 1], indices[..., 0]
