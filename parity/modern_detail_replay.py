"""Modern's detail stages one at a time, on given inputs; names are those of the contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from modern.camera import project
from modern.codes import FlameCodes, split_encoder
from modern.detail.batch import DetailBatch
from modern.detail.geometry import HeadGeometry, HeadSurface
from modern.detail.model import DetailCodes, DetailEncoding, pasted
from modern.detail.networks import condition_map
from modern.detail.step import DetailOutput, generator_roots, make_optimizers
from modern.detail.visibility import Observation, face_patches, observe
from modern.flame import Mesh
from modern.losses.detail import TOTAL, DetailLossInputs, content_loss, detail_losses
from modern.renderer import Harmonics, Raster, sh_shading
from modern.weight_table import TABLES
from parity.modern_detail_modules import Modules
from parity.modern_detail_networks import DetailNetworks, SyntheticGeometry
from parity.modern_detail_taps import (
    PAINTERS,
    adam_tensors,
    attribute_tensors,
    dropped_parameters,
    gradients,
    head_tensors,
    loss_tensors,
    map_gradients,
    mesh_tensors,
    raster_tensors,
    running_statistics,
    visibility_tensors,
)
from parity.modern_taps import Tensors, code_tensors, normal_tensors

Inputs = Mapping[str, Tensor]
_PATCHES = ("texture_patch", "texture_gt_patch", "vis_patch")


class DetailReplay:
    """Runs single stages of modern; weights, buffers, gradients and modes are put back after each."""

    def __init__(self, networks: DetailNetworks) -> None:
        self._networks, self._model, self._step = networks, networks.model, networks.step
        self._modules = Modules(networks)

    def __call__(self, stage: str, inputs: Inputs) -> Tensors:
        """Outputs of `stage`; raises KeyError for an unknown one, or one that needs a mesh where there is none."""
        with self._networks.put_back():
            self._model.train()
            found = self._function(stage)(inputs)
            return {name: tensor.detach().clone() for name, tensor in found.items()}

    def _function(self, stage: str) -> Callable[[Inputs], Tensors]:
        if stage in self._with_gradients:
            return self._with_gradients[stage]
        families = (self._of_networks, self._of_maps, self._of_head, self._modules.functions)
        known = {name: function for family in families for name, function in family.items()}
        return torch.no_grad()(known[stage]) if stage != "IDMRF" else known[stage]

    @property
    def _with_gradients(self) -> dict[str, Callable[[Inputs], Tensors]]:
        return {
            "map_gradients": lambda x: map_gradients(self._output(x)),
            "map_cotangent": self._map_cotangent,
            "d_gradients": self._d_gradients,
            "g_gradients": self._g_gradients,
            "d_adam": lambda x: self._adam(x, ("D",), ""),
            "g_adam": lambda x: self._adam(x, PAINTERS, "/"),
        }

    @property
    def _of_networks(self) -> dict[str, Callable[[Inputs], Tensors]]:
        model = self._model
        return {
            "encoder": lambda x: {"parameters": model.encoder(x["image"])[0]},
            "expression": lambda x: {"exp": self._expression(x["image"])},
            "codes": lambda x: code_tensors(replace(split_encoder(x["parameters"]), exp_B50=x["exp"])),
            "action_units": lambda x: dict(zip(("tokens", "afn"), model.action_units(x["image"]), strict=True)),
            "detail_code": lambda x: {"detailcode": model.detail_encoder(x["image"])},
            "generator": lambda x: {"uv_z": model.displacement(x["pose"], x["exp"], x["detailcode"], x["afn"])},
            "au_probabilities": self._au_probabilities,
            "buffers": self._buffers,
            "discriminator": self._discriminator,
            "adversarial": lambda x: {"output": self._updated(x)(x["final_image"], _condition(x))},
        }

    @property
    def _of_maps(self) -> dict[str, Callable[[Inputs], Tensors]]:
        return {
            "visibility": self._visibility,
            "displacement": lambda x: {
                "uv_detail_normals": self._model.normals(x["uv_z"], x["uv_vertices"], x["uv_normals"])
            },
            "uv_shading": lambda x: {"uv_shading": sh_shading(x["uv_detail_normals"], x["light"], Harmonics.DECA)},
            "uv_texture": lambda x: {"uv_texture": x["albedo"] * x["uv_shading"]},
            "final_image": _final_image,
            "patches": lambda x: dict(
                zip(_PATCHES, face_patches(x["uv_texture"], x["texture_gt"], x["vis"]), strict=True)
            ),
            "losses": self._losses,
            "d_losses": lambda x: self._step.discriminator_losses(x["real"], x["fake"]),
            "g_losses": self._g_losses,
        }

    @property
    def _of_head(self) -> dict[str, Callable[[Inputs], Tensors]]:
        geometry = self._model.geometry
        if isinstance(geometry, SyntheticGeometry):
            return {stage: partial(_given, tensors) for stage, tensors in head_tensors(geometry.maps).items()}
        assert isinstance(geometry, HeadGeometry)
        renderer = geometry.renderer
        return {
            "flame": lambda x: mesh_tensors(geometry.flame(x["shape"], x["exp"], x["pose"])),
            "texture": lambda x: {"albedo": geometry.texture(x["tex"])},
            "projection": lambda x: mesh_tensors(project(_mesh(x), x["cam"])),
            "normals": lambda x: normal_tensors(renderer.surface(x["vertices"], x["projected"], _background(x))),
            "raster": lambda x: raster_tensors(renderer.rasterize(x["projected"])),
            "attributes": lambda x: attribute_tensors(renderer.surface(x["vertices"], x["projected"], _raster(x))),
            "uv_surface": lambda x: dict(
                zip(
                    ("uv_vertices", "uv_normals", "uv_projected", "uv_projected_normals"),
                    geometry.uv_maps(x["vertices"], x["normals"], x["projected"], x["projected_normals"]),
                    strict=True,
                )
            ),
        }

    def _expression(self, image_B3HW: Tensor) -> Tensor:
        assert self._model.expression is not None
        return self._model.expression(image_B3HW)

    def _au_probabilities(self, x: Inputs) -> Tensors:
        classifier = self._step.au_classifier
        return {"input": classifier(x["image"])[1], "target": classifier(x["final_image"])[1]}

    def _buffers(self, x: Inputs) -> Tensors:
        self._au_probabilities(x)
        statistics = running_statistics(self._networks.by_legacy_name["ACG"], "ACG")
        return {f"ACG/{key}": value for key, value in statistics.items()}

    def _discriminator(self, x: Inputs) -> Tensors:
        judgement = self._step.judge(x["image"], x["final_image"], _condition(x))
        return {"real": judgement.real_B1hw, "fake": judgement.fake_B1hw}

    def _visibility(self, x: Inputs) -> Tensors:
        mask = self._model.geometry.uv_face_eye_mask_11SS
        return visibility_tensors(observe(x["image"], x["mask"], x["uv_projected"], x["uv_projected_normals"], mask))

    def _losses(self, x: Inputs) -> Tensors:
        inputs = DetailLossInputs(
            texture_patch_B3SS=x["texture_patch"],
            texture_gt_patch_B3SS=x["texture_gt_patch"],
            visible_patch_B1SS=x["vis_patch"],
            uv_z_B1SS=x["uv_z"],
            uv_shading_B3SS=x["uv_shading"],
            unseen_B1SS=x["nonvis"],
            au_photograph_B41=x["input"],
            au_painted_B41=x["target"],
            fixes=self._networks.config.fixes,
        )
        found = detail_losses(inputs, self._networks.config)
        return loss_tensors({**found.weighted, TOTAL: content_loss(found.weighted)}, found.unweighted)

    def _g_losses(self, x: Inputs) -> Tensors:
        judged = self._step.adversarial_loss(x["output"])
        return self._step.generator_losses(judged, {name: value for name, value in x.items() if name != "output"})

    def _output(self, x: Inputs) -> DetailOutput:
        """A step from the displacement map on, with the recorded surface and photograph."""
        uv_z = x["uv_z"].detach().clone().requires_grad_()
        surface = HeadSurface(
            albedo_B3SS=x["albedo"],
            grid_BHW2=x["grid"],
            alpha_images_B1HW=torch.ones_like(x["mask"])[:, None],
            uv_vertices_B3SS=x["uv_vertices"],
            uv_normals_B3SS=x["uv_normals"],
            uv_projected_B3SS=x["uv_vertices"],  # read by the observation only, which is given
            uv_projected_normals_B3SS=x["uv_normals"],
        )
        observation = Observation(texture_B3SS=x["texture_gt"], visible_B1SS=x["vis"], unseen_B1SS=x["nonvis"])
        batch = DetailBatch(image_B3HW=x["image"], mask_BHW=x["mask"])
        decoding = self._model.lit(surface, uv_z, x["light"])
        return self._step.terms(_encoding(x), decoding, batch, observation, x["input"])

    def _map_cotangent(self, x: Inputs) -> Tensors:
        output = self._output(x)
        self._updated(x)
        cotangent = self._step.adversarial(output)[2]
        roots, gradients = generator_roots(output, cotangent)
        return {"G_loss": torch.autograd.grad(roots, output.decoding.uv_z_B1SS, gradients)[0]}

    def _d_gradients(self, x: Inputs) -> Tensors:
        discriminator = self._model.discriminator
        discriminator.zero_grad()
        self._step.judge(x["image"], x["final_image"], _condition(x)).losses["D_loss"].backward()
        return {**dropped_parameters(self._networks.setup.weights["D"], "D"), **gradients(discriminator, "D")}

    def _g_gradients(self, x: Inputs) -> Tensors:
        model = self._model
        code = model.detail_encoder(x["image"])
        model.displacement(x["pose"], x["exp"], code, x["afn"]).backward(x["cotangent"])
        networks = self._networks.by_legacy_name
        return {f"{name}/{key}": g for name in PAINTERS for key, g in gradients(networks[name], name).items()}

    def _adam(self, x: Inputs, names: tuple[str, ...], separator: str) -> Tensors:
        """One update by the step's own optimizer."""
        optimizers = make_optimizers(self._model, self._networks.config)
        optimizer = optimizers.discriminator if names == ("D",) else optimizers.generator
        found: Tensors = {}
        for name in names:
            prefix = name + separator if separator else ""
            for own, parameter in self._networks.by_legacy_name[name].named_parameters():
                key = prefix + TABLES[name].legacy(own)
                with torch.no_grad():
                    parameter.copy_(x[f"parameter/{key}"])
                parameter.grad = x[f"gradient/{key}"].clone()
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(x["step"])),
                    "exp_avg": x[f"exp_avg/{key}"].clone(),
                    "exp_avg_sq": x[f"exp_avg_sq/{key}"].clone(),
                }
        optimizer.step()
        for name in names:
            prefix = name + separator if separator else ""
            found |= adam_tensors(self._networks.by_legacy_name[name], name, optimizer, prefix)
        return found

    def _updated(self, x: Inputs) -> torch.nn.Module:
        """The discriminator with those weights that are among the inputs."""
        discriminator, table = self._model.discriminator, TABLES["D"]
        with torch.no_grad():
            for own, parameter in discriminator.named_parameters():
                given = x.get(f"parameter/{table.legacy(own)}")
                if given is not None:
                    parameter.copy_(given)
        return discriminator


def _given(tensors: Tensors, x: Inputs) -> Tensors:
    return tensors


def _condition(x: Inputs) -> Tensor:
    return condition_map(x["afn"], x["final_image"].shape[-1])


def _final_image(x: Inputs) -> Tensors:
    picture = F.grid_sample(x["uv_texture"], x["grid"], align_corners=False)
    return {"final_image": pasted(picture, x["image"], x["mask"][:, None])}


def _encoding(x: Inputs) -> DetailEncoding:
    """What is read of an encoding behind the displacement map: image and action-unit features."""
    none = x["image"].new_zeros(len(x["image"]), 0)
    flame = FlameCodes(shape_B100=none, tex_B50=none, exp_B50=none, pose_B6=none, cam_B3=none, light_B93=x["light"])
    return DetailEncoding(
        image_B3HW=x["image"],
        parameters_B236=none,
        tokens_BPC=none,
        codes=DetailCodes(flame=flame, detail_B128=none, afn_BUC=x.get("afn", none)),
    )


def _mesh(x: Inputs) -> Mesh:
    return Mesh(
        vertices_BV3=x["vertices"],
        landmarks2d=x["landmarks2d"],
        landmarks3d_B683=x["landmarks3d"],
        landmarks_dense=x["landmarks3d"][:, :0],
    )


def _raster(x: Inputs) -> Raster:
    return Raster(face_ids_BHW=x["face_ids"], barycentric_BHW3=x["barycentric"])


def _background(x: Inputs) -> Raster:
    """One background pixel per mesh, for what needs vertex normals only."""
    batch, like = len(x["vertices"]), x["vertices"]
    return Raster(
        face_ids_BHW=torch.full((batch, 1, 1), -1, device=like.device), barycentric_BHW3=-like.new_ones(batch, 1, 1, 3)
    )
