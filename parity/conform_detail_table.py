"""Where each detail vector is found: which run, which tensor of its trace or replay, which slice.

Source: fixtures/conformance/detail/README.md, "Runs" and "Keys inside a run".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Run:
    """One recorded run: how many steps, on which geometry, and how it departs from the shipped configuration."""

    steps: int
    head: bool = False
    small_displacement: bool = False
    overrides: Mapping[str, Any] = field(default_factory=dict)


_BALANCED = {"loss.reg_sym": 5e-6}
BASE = "step_synth"  # single modules are asked of this run's subject: it needs no head
RUNS = {
    BASE: Run(steps=2),
    "step_synth_small_z": Run(steps=1, overrides=_BALANCED, small_displacement=True),
    "step_synth_regsym5e-6": Run(steps=1, overrides=_BALANCED),
    "step_assets": Run(steps=2, head=True),
}
GENERATOR = ("E_detail", "D_detail")  # the modules the generator's optimizer owns
TERMS = ("photo_detail", "z_reg", "z_diff", "z_sym", "au_feature_loss")
# Entry of the JSON's losses -> tensor of the trace, where it is none of the loss terms.
OTHER_LOSSES = {
    "D_loss": "d_losses/D_loss",
    "d_loss_real": "d_losses/real",
    "d_loss_fake": "d_losses/fake",
    "G_loss": "g_losses/G_loss",
    "adv_G": "g_losses/adv_G",
    "content": "g_losses/content",
}
MRF_WEIGHTS = ("loss.photo_D", "loss.mrf")  # of the disabled term, entries of keys.json "config"

_ALL, _FIRST, _EIGHTH = np.s_[...], np.s_[:1], np.s_[..., ::8]
EVERY_EIGHTH_TEXEL = np.s_[..., ::8, ::8]
# Name of a map -> tensor of the run's trace.
MAPS = {
    "albedo": "texture/albedo",
    "final_image": "final_image/final_image",
    "grid": "attributes/grid",
    "nonvis_mask": "visibility/nonvis",
    "uv_coarse_normals": "uv_surface/uv_normals",
    "uv_coarse_vertices": "uv_surface/uv_vertices",
    "uv_detail_normals": "displacement/uv_detail_normals",
    "uv_pverts": "uv_surface/uv_projected",
    "uv_shading": "uv_shading/uv_shading",
    "uv_texture": "uv_texture/uv_texture",
    "uv_texture_gt": "visibility/texture_gt",
    "uv_texture_gt_patch": "patches/texture_gt_patch",
    "uv_texture_patch": "patches/texture_patch",
    "uv_vis_mask": "visibility/vis",
    "uv_vis_mask_patch": "patches/vis_patch",
    "uv_z": "generator/uv_z",
}
UNPASTED = "predicted_detail_images"  # the map that is pasted into the photograph; no stage yields it, a replay does
# Vector of a run -> tensor of its trace, slice.
TRACED: dict[str, tuple[str, Any]] = {
    "acg_cl_input": ("au_probabilities/input", _ALL),
    "acg_cl_target": ("au_probabilities/target", _ALL),
    "afn_strided8": ("action_units/afn", _EIGHTH),
    "codes/detailcode": ("detail_code/detailcode", _ALL),
    "disc_fake": ("discriminator/fake", _ALL),
    "disc_real": ("discriminator/real", _ALL),
    "output": ("adversarial/output", _ALL),
    "verts_sample0": ("flame/vertices", _FIRST),
}
# Single modules: vector -> replay, inputs (see `conform_detail_modules`), output, reduction.
_TOKENS, _NODES = np.s_[:, ::7, ::8], np.s_[..., ::8]
L2_PER_SAMPLE, L2 = "L2 of each sample", "L2"


def _action_units(mode: str) -> dict[str, tuple[str, str, str, Any]]:
    replay = f"AUNet:{mode}"
    return {
        f"AUNet/{mode}/afn_sample0": (replay, "image", "afn", np.s_[0]),
        f"AUNet/{mode}/afn_strided": (replay, "image", "afn", _NODES),
        f"AUNet/{mode}/cl": (replay, "image", "cl", _ALL),
        f"AUNet/{mode}/x_l2": (replay, "image", "tokens", L2_PER_SAMPLE),
        f"AUNet/{mode}/x_strided": (replay, "image", "tokens", _TOKENS),
    }


MODULES: dict[str, tuple[str, str, str, Any]] = {
    **_action_units("eval"),
    **_action_units("train"),
    "ACG/as_used/cl": ("ACG:as_used", "image", "cl", _ALL),
    "ACG/as_used/main_strided": ("ACG:as_used", "image", "nodes", np.s_[:, :, ::16]),
    "ACG/as_used/x_strided": ("ACG:as_used", "image", "tokens", _TOKENS),
    "ACG/eval/cl": ("ACG:eval", "image", "cl", _ALL),
    "AUEncoder/out": ("AUEncoder", "afn", "out", _ALL),
    "AUEncoder_encoders_enc/out": ("AUEncoder_encoders_enc", "afn", "out", _ALL),
    "AU_Feature_Loss/out": ("AU_Feature_Loss", "pair", "out", _ALL),
    "AU_Feature_Loss_/out": ("AU_Feature_Loss_", "pair", "out", _ALL),
    "D/cond_map_l2": ("D", "conditioned", "cond_map", L2_PER_SAMPLE),
    "D/cond_map_strided16": ("D", "conditioned", "cond_map", np.s_[..., ::16, ::16]),
    "D/out_B2": ("D", "conditioned_two", "out", _ALL),
    "D/out_B3": ("D", "conditioned", "out", _ALL),
    "D_detail/lin_cond": ("D_detail", "noise", "lin_cond", _ALL),
    "D_detail/uv_z_l2": ("D_detail", "noise", "uv_z", L2_PER_SAMPLE),
    "D_detail/uv_z_sample0": ("D_detail", "noise", "uv_z", _FIRST),
    "D_detail/uv_z_scaled10_strided8": ("D_detail", "noise_scaled", "uv_z", EVERY_EIGHTH_TEXEL),
    "D_detail/uv_z_strided8": ("D_detail", "noise", "uv_z", EVERY_EIGHTH_TEXEL),
    "E_detail/act_l2": ("E_detail_activations", "image", "l2", _ALL),
    "E_detail/out_224": ("E_detail", "image", "out", _ALL),
    "E_detail/out_224_single0": ("E_detail", "image_first", "out", _ALL),
    "E_detail/out_256": ("E_detail", "image_256", "out", _ALL),
    "IDMRF/content": ("IDMRF", "pictures", "content", _ALL),
    "IDMRF/grad_l2": ("IDMRF", "pictures", "grad", L2),
    "IDMRF/grad_strided16": ("IDMRF", "pictures", "grad", np.s_[..., ::16, ::16]),
    "IDMRF/loss": ("IDMRF", "pictures", "loss", _ALL),
    "IDMRF/relu3_2_l2": ("IDMRF", "pictures", "relu3_2", L2_PER_SAMPLE),
    "IDMRF/relu4_2_l2": ("IDMRF", "pictures", "relu4_2", L2_PER_SAMPLE),
    "IDMRF/style": ("IDMRF", "pictures", "style", _ALL),
    "TDC/body_out": ("TDC", "embeddings", "body_out", _ALL),
    "bce_logits_au/out": ("bce_logits_au", "pair", "out", _ALL),
}

# Parameters without a gradient in exact arithmetic (biases that a normalisation removes), and without any (l1).
_BEFORE_NORM = re.compile(
    r"E_detail/conv[2-7]\.bias|D_detail/model\.(1|5|9|13|17|21|25|29)\.bias|D/model\.(2|5|8)\.bias"
)
_UNUSED = re.compile(r"D/l1\.")


def live_keys(module: str, keys: Iterable[str]) -> list[str]:
    """The parameters of `module` that have a meaningful gradient, in the order of its state dict."""
    names = {key: f"{module}/{key}" for key in keys}
    return [key for key, name in names.items() if not (_BEFORE_NORM.fullmatch(name) or _UNUSED.match(name))]


def unused_keys(module: str, keys: Iterable[str]) -> list[str]:
    """The parameters of `module` that take no part in its forward pass."""
    return [key for key in keys if _UNUSED.match(f"{module}/{key}")]
