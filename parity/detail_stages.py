"""The stages of the detail pipeline (AUcGAN: displacement maps from a conditional GAN), both updates of a step."""

from __future__ import annotations

from parity.stages import Pipeline, Stage

_FRAMES = {"image": "batch/image"}
_MASK = {"mask": "batch/face_mask"}
_MESH = {"vertices": "flame/vertices", "projected": "projection/vertices"}
_NORMALS = {"normals": "normals/normals", "projected_normals": "normals/projected_normals"}
_RASTER = {"face_ids": "raster/face_ids", "barycentric": "raster/barycentric"}
_CODES = {"pose": "codes/pose", "exp": "codes/exp"}
_SURFACE = {"uv_vertices": "uv_surface/uv_vertices", "uv_normals": "uv_surface/uv_normals"}
_PATCHES = {name: f"patches/{name}" for name in ("texture_patch", "texture_gt_patch", "vis_patch")}
_JUDGED = {"final_image": "final_image/final_image", "afn": "action_units/afn"}
_WEIGHTS = {"parameter/*": "d_adam/parameter/*"}
_TERMS = ("photo_detail", "z_reg", "z_diff", "z_sym", "au_feature_loss")
_FROM_MAP = {
    "uv_z": "generator/uv_z",
    **_SURFACE,
    "albedo": "texture/albedo",
    "light": "codes/light",
    "grid": "attributes/grid",
    **_MASK,
    **_FRAMES,
    "texture_gt": "visibility/texture_gt",
    "vis": "visibility/vis",
    "nonvis": "visibility/nonvis",
    "input": "au_probabilities/input",
}

_STAGES = (
    Stage(name="encoder", doc="frozen ResNet-50: FLAME parameters of each image", inputs=_FRAMES),
    Stage(name="expression", doc="expression codes of the EMOCA stand-in", inputs=_FRAMES),
    Stage(
        name="codes",
        doc="code entries; expression from EMOCA, the rest from the encoder",
        inputs={"parameters": "encoder/parameters", "exp": "expression/exp"},
    ),
    Stage(name="action_units", doc="action-unit network on batch statistics: tokens and 27 nodes", inputs=_FRAMES),
    Stage(name="detail_code", doc="E_detail: 128 numbers of each image", inputs=_FRAMES),
    Stage(
        name="generator",
        doc="D_detail: displacement map uv_z from jaw, expression, detail code and action units",
        unit="m",
        inputs={**_CODES, "detailcode": "detail_code/detailcode", "afn": "action_units/afn"},
    ),
    Stage(name="flame", doc="FLAME mesh and its landmarks", unit="m", inputs={"shape": "codes/shape", **_CODES}),
    Stage(name="texture", doc="albedo map", inputs={"tex": "codes/tex"}),
    Stage(
        name="projection",
        doc="scaled orthographic projection to [-1, 1], y down",
        inputs={name: f"flame/{name}" for name in ("vertices", "landmarks2d", "landmarks3d")} | {"cam": "codes/cam"},
    ),
    Stage(name="normals", doc="vertex normals of the mesh and of its projection", inputs=_MESH),
    Stage(
        name="raster",
        doc="face id and barycentric coordinates of each pixel",
        inputs={"projected": "projection/vertices"},
    ),
    Stage(name="attributes", doc="texture coordinate of each pixel, and where the head is", inputs=_MESH | _RASTER),
    Stage(name="uv_surface", doc="position and normal of each texel, model and image space", inputs=_MESH | _NORMALS),
    Stage(
        name="visibility",
        doc="photograph unwrapped to texture space, visible texels, and those not to be trusted",
        inputs={
            "uv_projected": "uv_surface/uv_projected",
            "uv_projected_normals": "uv_surface/uv_projected_normals",
            **_FRAMES,
            **_MASK,
        },
    ),
    Stage(name="displacement", doc="normals of the displaced surface", inputs={"uv_z": "generator/uv_z", **_SURFACE}),
    Stage(
        name="uv_shading",
        doc="spherical-harmonics shading in texture space",
        inputs={"uv_detail_normals": "displacement/uv_detail_normals", "light": "codes/light"},
    ),
    Stage(
        name="uv_texture",
        doc="albedo times shading",
        inputs={"albedo": "texture/albedo", "uv_shading": "uv_shading/uv_shading"},
    ),
    Stage(
        name="final_image",
        doc="texture sampled into the picture, inside the mask",
        inputs={"uv_texture": "uv_texture/uv_texture", "grid": "attributes/grid", **_MASK, **_FRAMES},
    ),
    Stage(
        name="patches",
        doc="the face's part of texture space, enlarged",
        inputs={
            "uv_texture": "uv_texture/uv_texture",
            "texture_gt": "visibility/texture_gt",
            "vis": "visibility/vis",
        },
    ),
    Stage(
        name="au_probabilities",
        doc="41 action-unit probabilities of photograph and result",
        inputs={**_FRAMES, "final_image": "final_image/final_image"},
    ),
    Stage(
        name="losses",
        doc="each loss term, weighted and unweighted, and their sum",
        inputs={
            **_PATCHES,
            "uv_z": "generator/uv_z",
            "uv_shading": "uv_shading/uv_shading",
            "nonvis": "visibility/nonvis",
            "input": "au_probabilities/input",
            "target": "au_probabilities/target",
        },
    ),
    Stage(name="map_gradients", doc="gradient of each term with respect to uv_z", inputs=_FROM_MAP),
    Stage(name="discriminator", doc="verdicts on photograph and result", inputs={**_FRAMES, **_JUDGED}),
    Stage(
        name="d_losses",
        doc="discriminator loss, its two parts and their sum",
        inputs={"real": "discriminator/real", "fake": "discriminator/fake"},
    ),
    Stage(name="d_gradients", doc="gradient of the discriminator loss", inputs={**_FRAMES, **_JUDGED}),
    Stage(name="d_adam", doc="discriminator's Adam moments and parameters", gradients="d_gradients"),
    Stage(name="adversarial", doc="updated discriminator's verdict on the result", inputs=_JUDGED | _WEIGHTS),
    Stage(
        name="g_losses",
        doc="generator loss: adversarial part, content, sum",
        inputs={"output": "adversarial/output"} | {name: f"losses/{name}" for name in _TERMS},
    ),
    Stage(
        name="map_cotangent",
        doc="gradient of the generator loss with respect to uv_z",
        inputs={**_FROM_MAP, "afn": "action_units/afn", **_WEIGHTS},
    ),
    Stage(
        name="g_gradients",
        doc="gradient of the generator loss for E_detail and D_detail",
        inputs={**_FRAMES, **_CODES, "afn": "action_units/afn", "cotangent": "map_cotangent/G_loss"},
    ),
    Stage(name="g_adam", doc="generator's Adam moments and parameters", gradients="g_gradients"),
    Stage(
        name="buffers",
        doc="running statistics of the second action-unit network after the step",
        inputs={**_FRAMES, "final_image": "final_image/final_image"},
    ),
)
DETAIL = Pipeline(
    name="detail",
    tree="AUcGAN",
    variants={"detail": 0.0},
    stages=_STAGES,
    trained={"d_adam": ("D",), "g_adam": ("E_detail", "D_detail")},
    prefixed=frozenset({"g_adam"}),
)
