"""Where each stage's tensors are read in a step of modern's detail stage: fields of what the step returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from modern.detail.geometry import HeadSurface
from modern.detail.model import DetailDecoding
from modern.detail.step import DetailOutput, content_terms, generator_roots
from modern.detail.visibility import Observation
from modern.flame import Mesh
from modern.losses.detail import AU_FEATURE, TOTAL, DetailLossInputs
from modern.renderer import Raster, Surface
from modern.weight_table import TABLES
from parity.modern_taps import Tensors, code_tensors, moments, normal_tensors

PAINTERS = ("E_detail", "D_detail")


def mesh_tensors(mesh: Mesh) -> Tensors:
    """A mesh by the contract's names; the detail stage has no dense landmarks."""
    return {"vertices": mesh.vertices_BV3, "landmarks2d": mesh.landmarks2d, "landmarks3d": mesh.landmarks3d_B683}


def uv_surface_tensors(surface: HeadSurface) -> Tensors:
    """The smooth head in texture space."""
    return {
        "uv_vertices": surface.uv_vertices_B3SS,
        "uv_normals": surface.uv_normals_B3SS,
        "uv_projected": surface.uv_projected_B3SS,
        "uv_projected_normals": surface.uv_projected_normals_B3SS,
    }


def visibility_tensors(observation: Observation) -> Tensors:
    """The photograph in texture space."""
    return {
        "texture_gt": observation.texture_B3SS,
        "vis": observation.visible_B1SS,
        "nonvis": observation.unseen_B1SS,
    }


def patch_tensors(inputs: DetailLossInputs) -> Tensors:
    """What the photometric term compares."""
    return {
        "texture_patch": inputs.texture_patch_B3SS,
        "texture_gt_patch": inputs.texture_gt_patch_B3SS,
        "vis_patch": inputs.visible_patch_B1SS,
    }


def loss_tensors(weighted: Mapping[str, Tensor], unweighted: Mapping[str, Tensor]) -> Tensors:
    """Weighted terms with their sum, then the unweighted ones."""
    return dict(weighted) | {f"unweighted/{name}": value for name, value in unweighted.items()}


def raster_tensors(raster: Raster) -> Tensors:
    """Face ids and barycentric coordinates of each image."""
    return {"face_ids": raster.face_ids_BHW, "barycentric": raster.barycentric_BHW3}


def attribute_tensors(surface: Surface) -> Tensors:
    """What of the interpolated attributes the detail stage reads."""
    return {"grid": surface.grid_BHW2, "alpha_images": surface.alpha_images_B1HW}


def head_tensors(surface: HeadSurface) -> dict[str, Tensors]:
    """Stages of the head; without a mesh those that a given surface stands in for."""
    texture, uv_surface = {"albedo": surface.albedo_B3SS}, uv_surface_tensors(surface)
    if surface.head is None:
        return {"texture": texture, "attributes": {"grid": surface.grid_BHW2}, "uv_surface": uv_surface}
    seen = surface.head.surface
    return {
        "flame": mesh_tensors(surface.head.mesh),
        "texture": texture,
        "projection": mesh_tensors(surface.head.projected),
        "normals": normal_tensors(seen),
        "raster": raster_tensors(seen.raster),
        "attributes": attribute_tensors(seen),
        "uv_surface": uv_surface,
    }


def decoding_tensors(decoding: DetailDecoding) -> dict[str, Tensors]:
    """Stages of the displaced surface."""
    return {
        "displacement": {"uv_detail_normals": decoding.uv_normals_B3SS},
        "uv_shading": {"uv_shading": decoding.uv_shading_B3SS},
        "uv_texture": {"uv_texture": decoding.uv_texture_B3SS},
    }


def forward_tensors(output: DetailOutput) -> dict[str, Tensors]:
    """Stage -> tensors of the forward pass, in the order of the contract."""
    encoding, decoding, inputs = output.encoding, output.decoding, output.inputs
    return {
        "encoder": {"parameters": encoding.parameters_B236},
        "expression": {"exp": encoding.codes.flame.exp_B50},
        "codes": code_tensors(encoding.codes.flame),
        "action_units": {"tokens": encoding.tokens_BPC, "afn": encoding.codes.afn_BUC},
        "detail_code": {"detailcode": encoding.codes.detail_B128},
        "generator": {"uv_z": decoding.uv_z_B1SS},
        **head_tensors(decoding.surface),
        "visibility": visibility_tensors(output.observation),
        **decoding_tensors(decoding),
        "final_image": {"final_image": output.final_image_B3HW},
        "patches": patch_tensors(inputs),
        "au_probabilities": {"input": inputs.au_photograph_B41, "target": inputs.au_painted_B41},
        "losses": loss_tensors(output.losses, output.unweighted),
    }


def map_gradients(output: DetailOutput) -> Tensors:
    """Gradient of each weighted term and of their sum with respect to the displacement map."""
    zero = torch.zeros_like(output.au_cotangent_B3HW)
    found = {}
    for name, value in content_terms(output.losses).items():
        if name == AU_FEATURE:
            found[name] = _gradient(output, [output.final_image_B3HW], [output.au_cotangent_B3HW])
        else:
            found[name] = _gradient(output, [value], [torch.ones_like(value)])
    return {**found, TOTAL: _gradient(output, *generator_roots(output, zero))}


def _gradient(output: DetailOutput, roots: list[Tensor], gradients: list[Tensor]) -> Tensor:
    uv_z = output.decoding.uv_z_B1SS
    return torch.autograd.grad(roots, uv_z, gradients, retain_graph=True)[0]


def gradients(network: nn.Module, name: str) -> Tensors:
    """Gradients under legacy keys, of the parameters that have one."""
    found = {TABLES[name].legacy(key): parameter.grad for key, parameter in network.named_parameters()}
    return {key: gradient for key, gradient in found.items() if gradient is not None}


def dropped_parameters(weights: Mapping[str, Tensor], name: str) -> Tensors:
    """Zero for each legacy parameter that this side does not have because nothing reads it."""
    return {key: torch.zeros_like(value) for key, value in weights.items() if TABLES[name].modern(key) is None}


def adam_tensors(network: nn.Module, name: str, optimizer: torch.optim.Optimizer, prefix: str = "") -> Tensors:
    """Values and moments after an update, by legacy keys with `prefix`."""
    found: Tensors = {}
    for own, parameter in network.named_parameters():
        key = prefix + TABLES[name].legacy(own)
        found[f"parameter/{key}"] = parameter
        found |= {f"{moment}/{key}": value for moment, value in moments(optimizer, parameter).items()}
    return found


def running_statistics(network: nn.Module, name: str) -> Tensors:
    """Running means and variances by legacy keys."""
    statistics = {key: value for key, value in network.named_buffers() if key.endswith(("running_mean", "running_var"))}
    return {TABLES[name].legacy(key): value for key, value in statistics.items()}


@dataclass
class Calls:
    """Counts how often each network runs; use as a context manager."""

    networks: Mapping[str, nn.Module]

    def __enter__(self) -> dict[str, int]:
        self.counts = dict.fromkeys(self.networks, 0)
        self._hooks = [
            network.register_forward_pre_hook(self._counting(name)) for name, network in self.networks.items()
        ]
        return self.counts

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _counting(self, name: str):  # type: ignore[no-untyped-def]
        def count(module: nn.Module, arguments: object) -> None:
            self.counts[name] += 1

        return count
