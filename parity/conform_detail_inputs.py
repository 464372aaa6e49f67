"""Weights and inputs of `vectors_detail`, rebuilt from names (fixtures/conformance/detail/README.md).

Axes: B = 3 images, S = 256 texels, H = W = 224 pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fixtures import seeded
from parity.batch import FRAMES, SIZE, Batch
from parity.conform_material import Material
from parity.coverage import ConformError
from parity.subject import SyntheticSurface

TEXELS = 256
CODE_SIZES = {"shape": 100, "tex": 50, "exp": 50, "pose": 6, "cam": 3, "light": 27}
_POSE = (0.05, 0.15, -0.04, 0.15, 0.02, -0.02)
_CAMERA, _CAMERA_SPREAD = (8.0, 0.0, 0.03), (0.3, 0.01, 0.01)
_LIGHT_ROWS = ((3.4, 3.3, 3.2), (0.0, 0.0, 0.0), (0.3, 0.3, 0.3), (0.5, 0.5, 0.5))
_MASK_CENTRES = ((112, 118), (104, 124), (121, 110))
_SMALLER_DISPLACEMENT = 1 / 128  # of the last convolution, in the run of small displacements


def recorded_weights(material: Material) -> dict[str, dict[str, Tensor]]:
    """Module name -> state dict, with the shapes of keys.json; VGG19 has torchvision's.

    Raises:
        ConformError: if keys.json holds no networks.
    """
    try:
        shapes: dict[str, Any] = dict(material.keys["state_dict_keys"])
        gains: dict[str, float] = dict(material.keys["gain"])
    except (KeyError, TypeError, ValueError) as error:
        raise ConformError(f"{material.folder / 'keys.json'}: no state_dict_keys and gain ({error})") from error
    default = gains.get("default", 1.0)
    shapes["VGG19"] = _vgg19_shapes()
    return {
        module: seeded.state_dict(module, entries, gains.get(module, default), prefix=material.prefix)
        for module, entries in shapes.items()
    }


def with_small_displacement(weights: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """The weights with the generator's last convolution scaled down; the originals stay as they are."""
    edited = {module: dict(state) for module, state in weights.items()}
    for key in ("model.32.weight", "model.32.bias"):
        edited["D_detail"][key] = edited["D_detail"][key] * _SMALLER_DISPLACEMENT
    return edited


def images(material: Material, size: int = SIZE) -> Tensor:
    """[3,3,size,size] coarse cells with fine noise on top."""
    low = material.draw("images_low", (FRAMES, 3, 8, 8))
    low = low.repeat_interleave(size // 8, 2).repeat_interleave(size // 8, 3)
    return 0.75 * low + 0.25 * material.draw(f"images_high_{size}", (FRAMES, 3, size, size))


def face_masks() -> Tensor:
    """[3,224,224] an ellipse in each image, the second with a hole."""
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    masks = torch.stack([4 * (columns - x) ** 2 + 3 * (rows - y) ** 2 < 4 * 85**2 for x, y in _MASK_CENTRES]).float()
    masks[1, 120:150, 60:110] = 0
    return masks


def batch(material: Material) -> Batch:
    """The images and masks; the step reads no landmarks."""
    return Batch(
        name="recorded",
        image=images(material),
        landmark=torch.zeros(FRAMES, 68, 3),
        landmark_dense=torch.zeros(FRAMES, 105, 3),
        mask=face_masks()[:, None].repeat(1, 3, 1, 1),
        source=f"{material.stem} of {material.folder}",
        frame_names=tuple(f"recorded_{index}" for index in range(FRAMES)),
    )


def codes(material: Material) -> dict[str, Tensor]:
    """Code name -> [3,size] (light [3,9,3]); `exp` is what the EMOCA stand-in returns."""
    draw = material.draw
    light = torch.zeros(9, 3)
    light[: len(_LIGHT_ROWS)] = torch.tensor(_LIGHT_ROWS)
    spread = draw("code_cam", (FRAMES, 3), -1, 1)
    return {
        "shape": draw("code_shape", (FRAMES, 100), -0.8, 0.8),
        "tex": draw("code_tex", (FRAMES, 50), -1, 1),
        "exp": draw("exp", (FRAMES, 50), -0.6, 0.6),
        "pose": torch.tensor(_POSE) + draw("code_pose", (FRAMES, 6), -0.08, 0.08),
        "cam": torch.tensor(_CAMERA) + spread * torch.tensor(_CAMERA_SPREAD),
        "light": light + draw("code_light", (FRAMES, 9, 3), -0.15, 0.15),
    }


def encoder_output(values: Mapping[str, Tensor]) -> Tensor:
    """[3,236] what replaces the encoder's output; its own expression, which nothing may use, is zero."""
    parts = [values[name].reshape(FRAMES, size) for name, size in CODE_SIZES.items()]
    parts[list(CODE_SIZES).index("exp")] = torch.zeros(FRAMES, CODE_SIZES["exp"])
    return torch.cat(parts, dim=1)


def synthetic_surface(material: Material) -> SyntheticSurface:
    """The surface of the runs without a head, computed in float64 and rounded once."""
    axis = (2 * torch.arange(TEXELS, dtype=torch.float64) - (TEXELS - 1)) / TEXELS
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    radius = u**2 + v**2
    index = torch.arange(FRAMES, dtype=torch.float64).reshape(-1, 1, 1)
    ones = torch.ones(FRAMES, TEXELS, TEXELS, dtype=torch.float64)

    def stacked(*parts: Any) -> Tensor:
        return torch.stack([part * ones for part in parts], dim=1)

    normals = stacked(u / 2, -v / 2, 1 + index / 8)
    towards = (radius < 0.81) & ~((u > 0.25) & (u < 0.5) & (v > -0.5) & (v < 0))
    facing = torch.where(towards, -0.5, 0.25).to(torch.float64)
    projected_normals = stacked(facing, facing, facing)
    projected_normals[1, 2][(u < -0.5) & (v > 0.25)] = 0
    rounded = {
        "uv_vertices": stacked(u / 8 * (1 + index / 16), -v / 8, (2 - radius) / 16),
        "uv_normals": normals / normals.norm(dim=1, keepdim=True),
        "uv_projected": stacked(0.75 * u + index / 32, 0.75 * v - index / 64, 10.0),
        "uv_projected_normals": projected_normals,
        "uv_face_eye_mask": (8 * (1 - 1.25 * u**2 - v**2)).clamp(0, 1)[None, None],
        "grid": _grid(index),
    }
    return SyntheticSurface(
        fixed_uv_dis=material.draw("fixed_uv_dis", (TEXELS, TEXELS), -0.001, 0.001),
        albedo=material.draw("albedo", (FRAMES, 3, TEXELS, TEXELS), 0.2, 0.8),
        **{name: tensor.to(torch.float32) for name, tensor in rounded.items()},
    )


def _grid(index: Tensor) -> Tensor:
    """[3,224,224,2] where in texture space each pixel looks; (0, 0) outside a disc."""
    axis = (2 * torch.arange(SIZE, dtype=torch.float64) - (SIZE - 1)) / SIZE
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    inside = (x**2 + y**2 < 0.64)[None, ..., None]
    points = torch.stack([0.875 * x + index / 64, 0.875 * y - index / 32], dim=-1)
    return torch.where(inside, points, torch.zeros_like(points))


def _vgg19_shapes() -> dict[str, tuple[list[int], str]]:
    from torchvision.models import vgg19  # slow to import, and only this recipe needs it

    with torch.device("meta"):
        state = vgg19(weights=None).features.state_dict()
    return {key: (list(tensor.shape), "float32") for key, tensor in state.items()}
