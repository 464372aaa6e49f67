"""The stages of the coarse pipeline (AU_sequence: BiViT over three frames)."""

from __future__ import annotations

from parity.stages import Pipeline, Stage

_FRAMES = {"image": "batch/image"}
_TOKENS = {"afn": "action_units/afn", "global_feature": "encoder/global_feature"}
_MESH = {"vertices": "flame/vertices", "projected": "projection/vertices"}
_RASTER = {"face_ids": "raster/face_ids", "barycentric": "raster/barycentric"}
_TERMS = {
    "out": "sequence/out",
    "parameters": "encoder/parameters",
    "image": "batch/image",
    "landmark": "batch/landmark",
    "landmark_dense": "batch/landmark_dense",
    "mask": "batch/mask",
    **_RASTER,
}

_STAGES = (
    Stage(name="encoder", doc="frozen ResNet-50: FLAME parameters and global feature of each frame", inputs=_FRAMES),
    Stage(name="action_units", doc="frozen action-unit network: tokens and 27 node features", inputs=_FRAMES),
    Stage(name="sequence", doc="BiViT over three frames, training mode", inputs=_TOKENS, draws=True),
    Stage(
        name="prediction",
        doc="BiViT over three frames, evaluation mode",
        inputs=_TOKENS,
        isolated=False,
        after_update=True,
    ),
    Stage(name="deca_codes", doc="DECA's own code entries", inputs={"parameters": "encoder/parameters"}),
    Stage(
        name="codes",
        doc="code entries that are decoded",
        inputs={"out": "sequence/out", "parameters": "encoder/parameters"},
    ),
    Stage(
        name="flame",
        doc="FLAME mesh and its three landmark sets",
        unit="m",
        inputs={"shape": "codes/shape", "exp": "codes/exp", "pose": "codes/pose"},
    ),
    Stage(
        name="flame_deca",
        doc="FLAME mesh of DECA's own codes (shown, not trained on)",
        unit="m",
        inputs={"shape": "deca_codes/shape", "exp": "deca_codes/exp", "pose": "deca_codes/pose"},
    ),
    Stage(name="texture", doc="albedo map", inputs={"tex": "codes/tex"}),
    Stage(
        name="projection",
        doc="scaled orthographic projection to [-1, 1], y down",
        inputs={
            "vertices": "flame/vertices",
            "landmarks2d": "flame/landmarks2d",
            "landmarks3d": "flame/landmarks3d",
            "landmarks_dense": "flame/landmarks_dense",
            "cam": "codes/cam",
        },
    ),
    Stage(name="normals", doc="vertex normals of the mesh and of its projection", inputs=_MESH),
    Stage(
        name="raster",
        doc="face id and barycentric coordinates of each pixel",
        inputs={"projected": "projection/vertices"},
    ),
    Stage(name="attributes", doc="interpolated grid, normals and masks", inputs={**_MESH, **_RASTER}),
    Stage(
        name="shading",
        doc="spherical-harmonics shading",
        inputs={"normal_images": "attributes/normal_images", "light": "codes/light"},
    ),
    Stage(
        name="rendering",
        doc="albedo sampled and shaded",
        inputs={**_MESH, **_RASTER, "albedo": "texture/albedo", "light": "codes/light"},
    ),
    Stage(
        name="features",
        doc="action-unit and expression features of photograph and rendering",
        inputs={"image": "batch/centre", "rendered": "rendering/images"},
    ),
    Stage(name="losses", doc="each weighted loss term and their sum", inputs=_TERMS),
    Stage(name="code_gradients", doc="gradient of each term with respect to BiViT's output", inputs=_TERMS),
    Stage(
        name="gradients",
        doc="gradient of every trainable parameter",
        inputs={**_TOKENS, "cotangent": "code_gradients/all_loss"},
        draws=True,
    ),
    Stage(name="adam", doc="Adam moments and parameters after the update", gradients="gradients"),
)
COARSE = Pipeline(
    name="coarse",
    tree="AU_sequence",
    variants={"eval": 0.0, "dropout": 0.1},
    stages=_STAGES,
    trained={"adam": ("BiViT",)},
)
