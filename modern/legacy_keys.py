"""Every key of the coarse fork's configuration (coarse spec 9): its default there, and what it is here.

`modern/legacy_keys_detail.py` has the detail fork's.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Key:
    """One legacy key.

    Attributes:
        default: legacy's value where the yml is silent.
        target: `section.name` of the setting here; empty if there is none.
        convert: from legacy's value to the setting's.
        fixed: no other value than the default is supported.
    """

    default: Any
    target: str = ""
    convert: Callable[[Any], Any] = lambda value: value
    fixed: bool = False


def fixed(default: Any) -> Key:
    """A key of which only the default is supported."""
    return Key(default, fixed=True)


def in_sections(**sections: Mapping[str, Key]) -> dict[str, Key]:
    """Keys under their dotted names."""
    return {f"{section}.{name}": key for section, keys in sections.items() for name, key in keys.items()}


def parent_folder(value: str) -> Path:
    """All head files are read from the folder that holds generic_model.pkl, under their usual names."""
    return Path(value).parent


def whole_number(value: Any) -> int:
    """YAML reads `1e18` as text or as a float."""
    return int(float(value))


def _path_or_none(value: str) -> str | None:
    return value or None


_SIZES = {"shape": 100, "tex": 50, "exp": 50, "cam": 3, "pose": 6, "jaw_pose": 3, "light": 27}

_TOP = {
    "device": Key("cuda:1"),
    "device_id": Key("0,1"),
    "pretrained_modelpath": Key("", "model.pretrained", _path_or_none),
    "pretrained_modelpath_224": Key("./data/deca_model.tar", "model.encoder_weights"),
    "emotion_checkpoint": Key("./data/dataloader_idx_0=1.27607644.ckpt", "model.emotion_weights"),
    "model_path_HJ": Key(""),
    "output_dir": Key("", "train.output_dir"),
    "rasterizer_type": fixed("pytorch3d"),
}
_HEAD_FILES = {
    "topology_path": "head_template.obj",
    "flame_lmk_embedding_path": "landmark_embedding.npy",
    "mp_lmk_embedding_path": "mediapipe_landmark_embedding.npz",
    "flame_mask_path": "FLAME_masks.pkl",
    "face_mask_path": "uv_face_mask.png",
    "face_eye_mask_path": "uv_face_eye_mask.png",
    "flame_tex_path": "FLAME_texture.npz",
}
_UNUSED_FILES = {
    "dense_template_path": "texture_data_256.npy",
    "fixed_displacement_path": "fixed_displacement_256.npy",
    "mean_tex_path": "mean_texture.jpg",
    "tex_path": "FLAME_albedo_from_BFM.npz",
    "lightprobe_normal_path": "lightprobe_normal_images.npy",
    "lightprobe_albedo_path": "lightprobe_albedo_images.npy",
    "BalanceAlb_tex_path": "",
}
_MODEL = {
    "flame_model_path": Key("data/generic_model.pkl", "model.head", parent_folder),
    **{name: Key(f"data/{file}") for name, file in {**_HEAD_FILES, **_UNUSED_FILES}.items()},
    "fr_model_path": Key("data/resnet50_ft_weight.pkl", "model.identity_weights"),
    "tex_type": fixed("FLAME"),
    "uv_size": fixed(256),
    "image_size": Key(224, "model.image_size"),
    "param_list": fixed(["shape", "tex", "exp", "pose", "cam", "light"]),
    "param_list_part": Key(["tex", "exp", "jaw_pose", "light"]),
    "param_list_OnlyE": fixed(["tex", "exp", "light"]),
    "param_list_EandJT": Key(["tex", "exp", "jaw_pose", "light"]),
    **{f"n_{name}": fixed(size) for name, size in _SIZES.items()},
    "use_tex": fixed(True),
    "jaw_type": Key("aa", "model.jaw"),
    "extract_tex": Key(True),
    "n_detail": Key(128),
    "max_z": Key(0.01),
}
_DATASET = {
    "training_data": fixed(["selfDataset"]),
    "mediapipePath": Key("./data/mediapipe_landmark_embedding.npz"),
    "batch_size": Key(1, "data.batch_size"),
    "K": Key(7),
    "isSingle": Key(False),
    "num_workers": Key(3, "data.workers"),
    "image_size": Key(224),
    "scale_min": Key(1.4),
    "scale_max": Key(1.8),
    "trans_scale": Key(0.0),
    "lmksize": Key(68),
}
_TRAIN = {
    "train_detail": fixed(False),
    "max_epochs": Key(500, "train.max_epochs"),
    "max_steps": Key(1_000_000, "train.max_steps", whole_number),
    "lr": Key(1e-4, "train.lr"),
    "log_dir": Key("logs"),
    "log_steps": Key(10, "train.log_steps"),
    "vis_dir": Key("train_images"),
    "vis_steps": Key(200, "train.vis_steps"),
    "vis_au": Key(False),
    "stepLR_steps": Key(10000),
    "write_summary": Key(True, "train.write_summary"),
    "checkpoint_steps": Key(500, "train.checkpoint_steps"),
    "eval_steps": Key(5000),
    "resume": Key(False, "train.resume"),
}
_LOSS = {
    "lmk": Key(1.0, "loss.landmark"),
    "useWlmk": Key(True),
    "lmk_mp": Key(1.0, "loss.landmark_dense"),
    "eyed": Key(0.06, "loss.eye_distance"),
    "relative_d": Key(0.5),
    "lipd": Key(1.0, "loss.lip_distance"),
    "photo": Key(0.2, "loss.photometric"),
    "useSeg": Key(True, "loss.segmentation"),
    "expression": Key(0.0, "loss.emotion"),
    "AUFLoss": Key(0.0, "loss.action_unit_feature"),
    "mainAU": Key(0.5, "loss.au_landmark"),
    "subAU": Key(0.5, "loss.au_distance"),
    "weightedAU": Key(False, "loss.au_weighted"),
    "focalAU": Key(True, "loss.au_focal"),
    "relaL": Key(1e-4, "loss.relative_landmark"),
    "reg_exp": Key(1e-4, "loss.reg_expression"),
    "reg_shape": Key(0.0, "loss.reg_shape"),
    "reg_tex": Key(0.0, "loss.reg_texture"),
    "reg_pose": Key(1e-5),
    "reg_cam": Key(1e-5),
    "reg_light": Key(0.0, "loss.reg_light"),
    "reg_jaw_pose": Key(0.8, "loss.reg_jaw"),
    "use_gender_prior": Key(False),
}

KEYS: dict[str, Key] = {**_TOP, **in_sections(model=_MODEL, dataset=_DATASET, train=_TRAIN, loss=_LOSS)}


def resolve(
    given: Mapping[str, Any], source: str, keys: Mapping[str, Key] = KEYS
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Translate legacy settings.

    Args:
        given: dotted legacy key -> value.
        source: where they come from, for messages.
        keys: the keys of the pipeline.

    Returns:
        `section.name` -> value of the settings here, and the keys that have no effect.

    Raises:
        ValueError: on an unknown key, or a value that is not supported.
    """
    targets, ignored = {}, []
    for name, value in given.items():
        key = _find(name, source, keys)
        if key.fixed and value != key.default:
            raise ValueError(f"{source}: {name} is {value!r}; only {key.default!r} is supported, remove the line")
        if key.target:
            targets[key.target] = key.convert(value)
        elif not key.fixed:
            ignored.append(name)
    return targets, tuple(ignored)


def _find(name: str, source: str, keys: Mapping[str, Key]) -> Key:
    if name not in keys:
        nearest = difflib.get_close_matches(name, keys, n=1, cutoff=0.0)[0]
        raise ValueError(f"{source}: unknown key {name!r}; the nearest known key is {nearest!r}")
    return keys[name]
