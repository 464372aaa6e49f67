"""THE contract between subjects: the ordered stages of the coarse pipeline, what feeds them and what they yield.

Axes and shapes of every tensor: docs/architecture.md. An input is named by where the reference run recorded it, as
`stage/tensor`, or by `batch/<field>` for the batch itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from parity.batch import Batch


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One named step of the pipeline.

    inputs: argument name of `Subject.replay` -> recorded tensor. Empty for stages whose inputs are assembled (`adam`).
    draws: the stage consumes random numbers while dropout is on, so a replay is seeded first.
    """

    name: str
    doc: str
    inputs: Mapping[str, str]
    unit: str = ""
    draws: bool = False


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

STAGES: tuple[Stage, ...] = (
    Stage(name="encoder", doc="frozen ResNet-50: FLAME parameters and global feature of each frame", inputs=_FRAMES),
    Stage(name="action_units", doc="frozen action-unit network: tokens and 27 node features", inputs=_FRAMES),
    Stage(name="sequence", doc="BiViT over three frames, training mode", inputs=_TOKENS, draws=True),
    Stage(name="prediction", doc="BiViT over three frames, evaluation mode", inputs=_TOKENS),
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
    Stage(name="losses", doc="each weighted loss term and their sum", inputs=_TERMS, draws=False),
    Stage(name="code_gradients", doc="gradient of each term with respect to BiViT's output", inputs=_TERMS),
    Stage(
        name="gradients",
        doc="gradient of every trainable parameter",
        inputs={**_TOKENS, "cotangent": "code_gradients/all_loss"},
        draws=True,
    ),
    Stage(name="adam", doc="Adam moments and parameters after the update", inputs={}),
)
NAMES: tuple[str, ...] = tuple(stage.name for stage in STAGES)
BY_NAME: Mapping[str, Stage] = {stage.name: stage for stage in STAGES}


def batch_tensors(batch: Batch) -> dict[str, Tensor]:
    """The batch under the names that stage inputs use; `batch/centre` is the centre frame [1,3,H,W]."""
    fields = {name: getattr(batch, name) for name in ("image", "landmark", "landmark_dense", "mask")}
    return {f"batch/{name}": tensor for name, tensor in fields.items()} | {"batch/centre": batch.image[1:2]}


def stage_inputs(stage: Stage, recorded: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The arguments of a replay of `stage`, taken from `recorded` (a reference trace's tensors plus the batch).

    Raises:
        KeyError: the reference did not record an input; the message names it.
    """
    return {argument: recorded[key].clone() for argument, key in stage.inputs.items()}


def select(patterns: str | None) -> tuple[str, ...]:
    """Stage names from a comma-separated list; None means all.

    Raises:
        ValueError: an unknown name; the message lists the known ones.
    """
    if not patterns:
        return NAMES
    wanted = [name.strip() for name in patterns.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in BY_NAME]
    if unknown:
        raise ValueError(f"unknown stage {', '.join(unknown)}; known: {', '.join(NAMES)}")
    return tuple(name for name in NAMES if name in wanted)
