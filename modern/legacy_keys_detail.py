"""Every key of the detail fork's configuration (detail spec 7): its default there, and what it is here.

A key without target and without a fixed value has no effect in legacy either, or names a file that is found by its
usual name; it is accepted and listed as ignored.
"""

from __future__ import annotations

from typing import Any

from modern.legacy_keys import Key, fixed, in_sections, parent_folder, whole_number

_TOP = {
    "deca_dir": Key("legacy"),
    "device": Key("cuda:1"),
    "device_id": Key("1,0"),
    "pretrained_modelpath": Key("model.tar", "model.encoder_weights"),  # only its E_flame is ever used
    "output_dir": Key("", "train.output_dir"),
    "rasterizer_type": fixed("pytorch3d"),
}
_HEAD_FILES = {
    "topology_path": "head_template.obj",
    "dense_template_path": "texture_data_256.npy",
    "fixed_displacement_path": "fixed_displacement_256.npy",
    "flame_lmk_embedding_path": "landmark_embedding.npy",
    "face_mask_path": "uv_face_mask.png",
    "face_eye_mask_path": "uv_face_eye_mask.png",
    "mean_tex_path": "mean_texture.jpg",
    "tex_path": "FLAME_albedo_from_BFM.npz",
}
_SIZES = {"shape": 100, "tex": 50, "exp": 50, "cam": 3, "pose": 6, "light": 27, "detail": 128}
_MODEL = {
    "flame_model_path": Key("generic_model.pkl", "model.head", parent_folder),
    **{name: Key(file) for name, file in _HEAD_FILES.items()},
    "tex_type": Key("BFM", "model.texture"),
    "uv_size": fixed(256),
    "param_list": fixed(["shape", "tex", "exp", "pose", "cam", "light"]),
    **{f"n_{name}": fixed(size) for name, size in _SIZES.items()},
    "use_tex": fixed(True),
    "extract_tex": Key(True),
    "jaw_type": Key("aa"),
    "fr_model_path": Key("resnet50_ft_weight.pkl"),
    "max_z": Key(0.01, "model.max_displacement"),
}
_DATASET = {
    "training_data": Key(["selfDataset"]),
    "mediapipePath": Key("mediapipe_landmark_embedding.npz"),
    "batch_size": Key(16, "data.batch_size"),
    "K": Key(1, "data.images"),
    "isSingle": Key(False),
    "num_workers": Key(2, "data.workers"),
    "image_size": fixed(224),
    "scale_min": Key(1.4),
    "scale_max": Key(1.8),
    "trans_scale": Key(0.0),
}
_TRAIN = {
    "train_detail": fixed(True),
    "max_epochs": Key(500, "train.max_epochs"),
    "max_steps": Key(100_000_000, "train.max_steps", whole_number),
    "lr": Key(1e-4),
    "log_dir": Key("logs"),
    "log_steps": Key(10, "train.log_steps"),
    "vis_dir": Key("train_images"),
    "vis_steps": Key(200, "train.vis_steps"),
    "write_summary": Key(True, "train.write_summary"),
    "checkpoint_steps": Key(500, "train.checkpoint_steps"),
    "val_steps": Key(500),
    "val_vis_dir": Key("val_images"),
    "eval_steps": Key(5000),
    "resume": Key(True, "train.resume"),
}
_UNREAD_LOSSES: dict[str, Any] = {
    "lmk": 1.0,
    "useWlmk": True,
    "eyed": 1.0,
    "lipd": 0.5,
    "photo": 2.0,
    "useSeg": True,
    "id": 0.2,
    "id_shape_only": True,
    "reg_shape": 1e-4,
    "reg_exp": 1e-4,
    "reg_tex": 1e-4,
    "reg_light": 1.0,
    "reg_jaw_pose": 0.0,
    "use_gender_prior": False,
    "shape_consistency": True,
    "detail_consistency": True,
    "useConstraint": True,
    "mrf": 0.05,
    "AU_feature": 0.25,
}
_LOSS = {
    **{name: Key(default) for name, default in _UNREAD_LOSSES.items()},
    "photo_D": Key(2.0, "loss.photometric"),
    "reg_sym": Key(0.005, "loss.symmetry"),
    "reg_z": Key(0.005, "loss.displacement"),
    "reg_diff": Key(0.005, "loss.smoothness"),
}

DETAIL_KEYS: dict[str, Key] = {**_TOP, **in_sections(model=_MODEL, dataset=_DATASET, train=_TRAIN, loss=_LOSS)}
