"""Where each coarse vector is found: which run, which tensor of its trace or replay, which slice.

Source: fixtures/conformance/coarse/README.md, "Tensors" and "Provenance".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Run:
    """One recorded training step of the README: how it departs from the shipped configuration."""

    dropout: float = 0.0
    overrides: Mapping[str, Any] = field(default_factory=dict)
    term_gradients: bool = True


BASE = "step_eval"
RUNS = {
    BASE: Run(),
    "step_dropout_seed0": Run(dropout=0.1),
    "alt_focal": Run(overrides={"loss.lipd": 1.0, "loss.focalAU": True, "loss.reg_shape": 1e-4}, term_gradients=False),
    "alt_weighted_noseg": Run(overrides={"loss.weightedAU": True, "loss.useSeg": False}, term_gradients=False),
}
KEYS_ENTRY = {"AU_net": "AU_net_MEFARG"}  # module name -> entry of keys.json, where they differ
CODE_BOOKS = {"codedict": "deca_codes", "codedict_our": "codes"}

_ALL, _HALF = np.s_[...], np.s_[..., ::2, ::2]
# Vector -> tensor of the base run's trace, slice.
TRACED: dict[str, tuple[str, Any]] = {
    "E_flame/parameters": ("encoder/parameters", _ALL),
    "E_flame/global_feature": ("encoder/global_feature", _ALL),
    "AUNet/afn": ("action_units/afn", _ALL),
    "AUNet/tokens_strided": ("action_units/tokens", np.s_[:, ::4, ::4]),
    "FLAME/verts": ("flame/vertices", _ALL),
    "FLAME/landmarks2d": ("flame/landmarks2d", _ALL),
    "FLAME/landmarks3d": ("flame/landmarks3d", _ALL),
    "FLAME/mp": ("flame/landmarks_dense", _ALL),
    "FLAMETex/albedo_strided": ("texture/albedo", _HALF),
    "FLAMETex/albedo_corner": ("texture/albedo", np.s_[:, :, 100:132, 100:132]),
    "project/trans_verts": ("projection/vertices", _ALL),
    "render/albedo_images_strided": ("rendering/albedo_images", _HALF),
    "render/alpha_images": ("attributes/alpha_images", _ALL),
    "render/bary_strided": ("raster/barycentric", np.s_[::4, ::4]),
    "render/grid_strided": ("attributes/grid", np.s_[:, ::2, ::2]),
    "render/images": ("rendering/images", _ALL),
    "render/normal_images": ("attributes/normal_images", _ALL),
    "render/normals": ("normals/normals", _ALL),
    "render/pix_to_face": ("raster/face_ids", _ALL),
    "render/pos_mask": ("attributes/pos_mask", _ALL),
    "render/shading_images_strided": ("shading/shading_images", _HALF),
    "render/transformed_normals": ("normals/projected_normals", _ALL),
    "render/v_colors": ("attributes/face_region", _ALL),
    "step_eval/afn_pred": ("features/afn_rendered", _ALL),
    "step_eval/emotion_pred": ("features/emotion_rendered", _ALL),
    "step_eval/landmarks2d": ("projection/landmarks2d", _ALL),
    "step_eval/landmarks3d": ("projection/landmarks3d", _ALL),
    "step_eval/mp_landmark": ("projection/landmarks_dense", _ALL),
}
# Vector -> name of a replay (its inputs: `CoarseRecipe`), its output, slice.
REPLAYED: dict[str, tuple[str, str, Any]] = {
    "AUNet/cl_use_gnn_true": ("au_graph", "cl", _ALL),
    "AU_net/cl": ("au_classifier", "cl", _ALL),
    "AU_net/nodes_strided": ("au_classifier", "nodes", np.s_[..., ::8]),
    "AU_net/tokens_strided": ("au_classifier", "tokens", np.s_[:, ::8, ::8]),
    "expression_net/features": ("expression", "features", _ALL),
    "BiViT/out": ("prediction", "out", _ALL),
    "FLAME4/verts_strided": ("flame", "vertices", np.s_[:, ::16]),
    "FLAME4/landmarks2d": ("flame", "landmarks2d", _ALL),
    "FLAME4/landmarks3d": ("flame", "landmarks3d", _ALL),
    "FLAME4/mp": ("flame", "landmarks_dense", _ALL),
    "render_shape/full_strided": ("shape_render", "full", _HALF),
    "render_shape/face_strided": ("shape_render", "face", _HALF),
    "decode_vis/landmarks3d_vis": ("visualisation", "landmarks3d_vis", _ALL),
    "decode_vis/render_images_strided": ("visualisation", "render_images", _HALF),
}
# Vector of a step -> the trace's extra, slice.
EXTRAS: dict[str, tuple[str, Any]] = {
    "lmk_col2_after": ("landmark_col2_after", _ALL),
    "lmk_dense_col2_after": ("landmark_dense_col2_after", _ALL),
    "dropout_masks_concat": ("dropout_masks", _ALL),
    "landmarks3d_world": ("landmarks3d_world", _ALL),
    "predicted_images_strided": ("predicted_images", _HALF),
}
# Where the nine spherical-harmonics functions are 1, 1, 1, 1, 1, 1, 2, 1, 1 (coarse spec 5.4): x, y, z of a normal.
PROBES = ((0, 0, 1), (0, 1, 0), (0, 0, 1), (1, 0, 0), (1, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1), (1, 0, 0))
PROBE_VALUES = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 1.0, 1.0)
