"""FLAME codes by name, and how the two code vectors are cut (coarse spec 4; deca_base spec 2).

Axes: B clips. Angles in radians; cam = (scale, tx, ty); light = 9 spherical-harmonics coefficients x RGB.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from modern.rotation import euler_to_axis_angle

# Widths in the order in which the code vectors hold them; `light` is coefficient-major.
ENCODER_LAYOUT = {"shape": 100, "tex": 50, "exp": 50, "pose": 6, "cam": 3, "light": 27}
SEQUENCE_LAYOUT = {"tex": 50, "exp": 50, "light": 27}
_LIGHT = (9, 3)


@dataclass(frozen=True, kw_only=True, slots=True)
class FlameCodes:
    """One head per clip.

    Attributes:
        shape_B100: identity.
        tex_B50: texture.
        exp_B50: expression.
        pose_B6: root and jaw rotation, axis-angle.
        cam_B3: scale and translation.
        light_B93: [B,9,3] spherical-harmonics light.
    """

    shape_B100: Tensor
    tex_B50: Tensor
    exp_B50: Tensor
    pose_B6: Tensor
    cam_B3: Tensor
    light_B93: Tensor


def split_encoder(code_B236: Tensor) -> FlameCodes:
    """Codes of the frozen encoder, as views of its output.

    Raises:
        ValueError: if the last axis is not 236 long.
    """
    part = _split(code_B236, ENCODER_LAYOUT)
    return FlameCodes(
        shape_B100=part["shape"],
        tex_B50=part["tex"],
        exp_B50=part["exp"],
        pose_B6=part["pose"],
        cam_B3=part["cam"],
        light_B93=part["light"],
    )


def with_predicted(codes: FlameCodes, out_B127: Tensor) -> FlameCodes:
    """`codes` with texture, expression and light replaced by BiViT's output; the rest is kept.

    Raises:
        ValueError: if the last axis is not 127 long.
    """
    part = _split(out_B127, SEQUENCE_LAYOUT)
    return replace(codes, tex_B50=part["tex"], exp_B50=part["exp"], light_B93=part["light"])


def with_axis_angle_jaw(codes: FlameCodes) -> FlameCodes:
    """`codes` whose jaw rotation, given as Euler angles (open, left-right, roll), is turned into axis-angle."""
    root, jaw = codes.pose_B6.split(3, dim=-1)
    return replace(codes, pose_B6=torch.cat([root, euler_to_axis_angle(jaw)], dim=-1))


def join_encoder(codes: FlameCodes) -> Tensor:
    """The code vector [B,236]; inverse of `split_encoder`."""
    parts = (codes.shape_B100, codes.tex_B50, codes.exp_B50, codes.pose_B6, codes.cam_B3, codes.light_B93.flatten(1))
    return torch.cat(parts, dim=1)


def join_predicted(codes: FlameCodes) -> Tensor:
    """The part of the codes that BiViT predicts [B,127]; inverse of `with_predicted`."""
    return torch.cat([codes.tex_B50, codes.exp_B50, codes.light_B93.flatten(1)], dim=1)


def _split(code: Tensor, layout: dict[str, int]) -> dict[str, Tensor]:
    width = sum(layout.values())
    if code.ndim != 2 or code.shape[1] != width:
        raise ValueError(f"code has shape {tuple(code.shape)}, expected [clips, {width}] = {layout}")
    part = dict(zip(layout, code.split(list(layout.values()), dim=1), strict=True))
    part["light"] = part["light"].reshape(-1, *_LIGHT)
    return part
