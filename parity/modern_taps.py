"""Where each stage's tensors are read in a step of modern: fields of what the step returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from modern.clip import CENTRE
from modern.codes import FlameCodes
from modern.flame import Mesh
from modern.model import CoarseModel
from modern.renderer import Raster, Rendering, Surface
from modern.train.step import StepOutput
from modern.weight_table import TABLES

Tensors = dict[str, Tensor]
CODES = {
    "shape": "shape_B100",
    "tex": "tex_B50",
    "exp": "exp_B50",
    "pose": "pose_B6",
    "cam": "cam_B3",
    "light": "light_B93",
}
_BIVIT = TABLES["BiViT"]
_FEATURES = ("afn_image", "afn_rendered", "emotion_image", "emotion_rendered")


def code_tensors(codes: FlameCodes) -> Tensors:
    """The six codes by their names in the contract."""
    return {name: getattr(codes, field) for name, field in CODES.items()}


def mesh_tensors(mesh: Mesh) -> Tensors:
    """A mesh by the contract's names."""
    return {
        "vertices": mesh.vertices_BV3,
        "landmarks2d": mesh.landmarks2d,
        "landmarks3d": mesh.landmarks3d_B683,
        "landmarks_dense": mesh.landmarks_dense,
    }


def raster_tensors(raster: Raster) -> Tensors:
    """Face ids and barycentric coordinates of the first clip."""
    return {"face_ids": raster.face_ids_BHW[0], "barycentric": raster.barycentric_BHW3[0]}


def normal_tensors(surface: Surface) -> Tensors:
    """Vertex normals of the mesh and of its projection."""
    return {"normals": surface.normals_BV3, "projected_normals": surface.projected_normals_BV3}


def attribute_tensors(surface: Surface) -> Tensors:
    """What is interpolated over the raster."""
    return {
        "grid": surface.grid_BHW2,
        "normal_images": surface.normal_images_B3HW,
        "alpha_images": surface.alpha_images_B1HW,
        "pos_mask": surface.pos_mask_B1HW,
        "face_region": surface.face_region_B1HW,
    }


def rendering_tensors(rendering: Rendering) -> Tensors:
    """Unlit and lit picture."""
    return {"albedo_images": rendering.albedo_images_B3HW, "images": rendering.images_B3HW}


@dataclass(frozen=True)
class Taps:
    """Reads every stage of one step.

    model: what the step ran. output: what it returned.
    """

    model: CoarseModel
    output: StepOutput

    def forward(self) -> dict[str, Tensors]:
        """Stage -> tensors, in the order in which they are computed; values before the update."""
        encoding, decoding = self.output.encoding, self.output.decoding
        rendering, surface = decoding.rendering, decoding.rendering.surface
        return {
            "encoder": {
                "parameters": encoding.parameters_BT236[0],
                "global_feature": encoding.global_feature_BT2048[0],
            },
            "action_units": {"tokens": encoding.tokens_BTPC[0], "afn": encoding.afn_BTUC[0]},
            "sequence": {"out": encoding.out_B127},
            "deca_codes": code_tensors(encoding.deca),
            "codes": code_tensors(encoding.codes),
            "flame": mesh_tensors(decoding.mesh),
            "flame_deca": {"vertices": self._deca_vertices()},
            "texture": {"albedo": decoding.albedo_B3SS},
            "projection": mesh_tensors(decoding.projected),
            "normals": normal_tensors(surface),
            "raster": raster_tensors(surface.raster),
            "attributes": attribute_tensors(surface),
            "shading": {"shading_images": rendering.shading_images_B3HW},
            "rendering": rendering_tensors(rendering),
            "features": feature_tensors(self.output),
            "losses": dict(self.output.losses),
        }

    def extras(self) -> Tensors:
        """Tensors outside the contract."""
        found = {"landmarks3d_world": self.output.decoding.mesh.landmarks3d_B683}
        if self.output.predicted_B3HW is not None:
            found["predicted_images"] = self.output.predicted_B3HW
        return found

    @torch.no_grad()
    def _deca_vertices(self) -> Tensor:
        """Computed for the tap only: a training step of modern does not need DECA's own mesh."""
        return self.model.mesh(self.output.encoding.deca).vertices_BV3


def feature_tensors(output: StepOutput) -> Tensors:
    """The contract's features of photograph and rendering, as far as active terms read them."""
    found = {name: getattr(output.features, name) for name in _FEATURES}
    return {name: value for name, value in found.items() if value is not None}


def term_gradients(output: StepOutput) -> Tensors:
    """Gradient of each term with respect to BiViT's output; zero where a term does not depend on it."""
    out = output.encoding.out_B127
    return {name: _gradient(value, out) for name, value in output.losses.items()}


def _gradient(value: Tensor, out: Tensor) -> Tensor:
    if not value.requires_grad:
        return torch.zeros_like(out)
    (gradient,) = torch.autograd.grad(value, out, retain_graph=True, allow_unused=True)
    return torch.zeros_like(out) if gradient is None else gradient


def parameter_gradients(model: CoarseModel) -> Tensors:
    """Gradient of every trained parameter by its legacy key."""
    return {
        _BIVIT.legacy(name): torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for name, parameter in model.sequence.named_parameters()
    }


def adam_tensors(model: CoarseModel, optimizer: torch.optim.Optimizer) -> Tensors:
    """Moments and values of every trained parameter after an update, by legacy keys."""
    found: Tensors = {}
    for name, parameter in model.sequence.named_parameters():
        key = _BIVIT.legacy(name)
        found |= {f"{moment}/{key}": value for moment, value in moments(optimizer, parameter).items()}
        found[f"parameter/{key}"] = parameter
    return found


def moments(optimizer: torch.optim.Optimizer, parameter: Tensor) -> Tensors:
    """Adam's two moments of a parameter; none if the optimizer never updated it."""
    state = optimizer.state.get(parameter, {})
    return {name: state[name] for name in ("exp_avg", "exp_avg_sq") if name in state}


def structure(output: StepOutput, mutated: list[str]) -> dict[str, Any]:
    """Plain facts: codes in order, loss keys, shapes, codes that share memory, changed inputs."""
    deca, codes = code_tensors(output.encoding.deca), code_tensors(output.encoding.codes)
    return {
        "codedict_keys": list(deca),
        "codedict_our_keys": list(codes),
        "loss_keys": list(output.losses),
        "aliases": [
            [f"codedict/{name}", f"codedict_our/{name}"]
            for name in deca
            if deca[name].data_ptr() == codes[name].data_ptr()
        ],
        "mutated_inputs": mutated,
    }


def centre(frames: Tensor) -> Tensor:
    """The centre frame, with a leading axis of one clip."""
    return frames[CENTRE : CENTRE + 1]
