"""Legacy's stages one at a time, on given inputs, each by the legacy code that computes it in a step.

`attributes`, `rendering`, `losses` and `code_gradients` use the recorded raster instead of searching for visible faces;
gradients of its barycentric coordinates are pytorch3d's (parity/recorded_raster.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from parity.legacy_build import import_legacy
from parity.legacy_taps import (
    MESH,
    attribute_tensors,
    code_entries,
    raster_tensors,
    recorded_raster,
    returning,
    tapped,
)

Inputs = Mapping[str, Tensor]
Tensors = dict[str, Tensor]
_LOSS_ARGUMENTS = {
    "batch_kp_2d_l1_loss": ("gt68", "pred68"),
    "landmark_loss": ("pred68", "gt68"),
    "landmark_HRNet_loss": ("pred68", "gt68"),
    "relative_landmark_loss": ("pred68", "gt68"),
    "related_au_landmark_loss": ("pred68", "gt68"),
    "weighted_landmark_loss": ("pred105", "gt105"),
    "eyed_loss": ("pred105", "gt105"),
    "lipd_loss": ("pred105", "gt105"),
    "weighted_au_landmark_loss_b1": ("pred105", "gt105", "au"),
}


class Replay:
    """Runs single stages of a legacy trainer."""

    def __init__(self, trainer: Any) -> None:
        self._trainer, self._model = trainer, trainer.mymodel

    def __call__(self, stage: str, inputs: Inputs) -> Tensors:
        """Outputs of `stage`; raises KeyError for an unknown one."""
        family, _, name = stage.partition(":")
        if family == "loss_function":
            return self._loss_function(name, inputs)
        function = getattr(self, f"_{stage}", None)
        if function is None:
            raise KeyError(f"legacy has no stage {stage!r}")
        if stage in ("code_gradients", "gradients"):
            found: Tensors = function(inputs)
            return found
        with torch.no_grad():
            return dict(function(inputs))

    def _encoder(self, x: Inputs) -> Tensors:
        return dict(zip(("parameters", "global_feature"), self._model.E_flame(x["image"]), strict=True))

    def _action_units(self, x: Inputs) -> Tensors:
        return dict(zip(("tokens", "afn"), self._model.AUNet(x["image"], use_gnn=False), strict=True))

    def _sequence(self, x: Inputs) -> Tensors:
        self._model.eval()
        self._model.BiViT.train()
        return {"out": self._model.BiViT(x["afn"], x["global_feature"])}

    def _prediction(self, x: Inputs) -> Tensors:
        self._model.BiViT.eval()
        out = self._model.BiViT(x["afn"], x["global_feature"])
        self._model.BiViT.train()
        return {"out": out}

    def _deca_codes(self, x: Inputs) -> Tensors:
        return code_entries(self._encode(x["parameters"], x["parameters"].new_zeros(1, self._model.n_param_OnlyE))[0])

    def _codes(self, x: Inputs) -> Tensors:
        return code_entries(self._encode(x["parameters"], x["out"])[1])

    def _encode(self, parameters: Tensor, out: Tensor) -> tuple[Any, Any]:
        """Legacy's own `encode` with its networks' outputs given."""
        model, image = self._model, parameters.new_zeros(3, 3, 1, 1)
        with ExitStack() as stack:
            stack.enter_context(returning(model.E_flame, (parameters.clone(), None)))
            stack.enter_context(returning(model.AUNet, (None, None)))
            stack.enter_context(returning(model.BiViT, out))
            found: tuple[Any, Any] = model.encode(image)
        return found

    def _flame(self, x: Inputs) -> Tensors:
        outputs = self._model.flame(shape_params=x["shape"], expression_params=x["exp"], pose_params=x["pose"])
        return dict(zip(MESH, outputs, strict=True))

    def _flame_deca(self, x: Inputs) -> Tensors:
        return {"vertices": self._flame(x)["vertices"]}

    def _texture(self, x: Inputs) -> Tensors:
        return {"albedo": self._model.flametex(x["tex"])}

    def _projection(self, x: Inputs) -> Tensors:
        codes = dict.fromkeys(("images", "shape", "exp", "pose", "tex", "cam"), x["cam"])
        with returning(self._model.flame, tuple(x[name] for name in MESH)), returning(self._model.flametex, None):
            opdict = self._model.decode(codes, codes, rendering=False, vis_lmk=False, return_vis=False)
        names = ("trans_verts", "landmarks2d", "landmarks3d", "mp_landmark")
        return {mesh: opdict[name] for mesh, name in zip(MESH, names, strict=True)}

    def _normals(self, x: Inputs) -> Tensors:
        util, faces = import_legacy("utils.util"), self._model.render.faces
        shifted = x["projected"].clone()
        shifted[:, :, 2] = shifted[:, :, 2] + 10
        return {
            "normals": util.vertex_normals(x["vertices"], faces),
            "projected_normals": util.vertex_normals(shifted, faces),
        }

    def _raster(self, x: Inputs) -> Tensors:
        render, shifted, size = self._model.render, x["projected"].clone(), self._model.image_size
        shifted[:, :, 2] = shifted[:, :, 2] + 10
        with tapped(self._trainer) as calls:
            render.rasterizer(shifted, render.faces, render.face_uvcoords, size, size)
        return raster_tensors(calls.outputs["rasterize_meshes"][0])

    def _attributes(self, x: Inputs) -> Tensors:
        unlit = {"albedo": x["vertices"].new_zeros(1, 3, 2, 2), "light": x["vertices"].new_zeros(1, 9, 3)}
        rendered, normal_images = self._render({**x, **unlit})
        return attribute_tensors(rendered, normal_images)

    def _shading(self, x: Inputs) -> Tensors:
        return {"shading_images": self._model.render.add_SHlight(x["normal_images"], x["light"])}

    def _rendering(self, x: Inputs) -> Tensors:
        rendered, _ = self._render(x)
        return {name: rendered[name] for name in ("albedo_images", "images")}

    def _render(self, x: Inputs) -> tuple[Tensors, Tensor]:
        """SRenderY on the recorded raster, and the normals that entered its shading."""
        size = self._model.image_size
        with recorded_raster(x["face_ids"], x["barycentric"]), tapped(self._trainer) as calls:
            rendered = self._model.render(
                x["vertices"], x["projected"].clone(), x["albedo"], x["light"], h=size, w=size
            )
        return rendered, calls.inputs["add_SHlight"][0][0]

    def _features(self, x: Inputs) -> Tensors:
        found = {}
        for name in ("image", "rendered"):
            found[f"afn_{name}"] = self._model.AUNet(x[name], use_gnn=False)[1]
            found[f"emotion_{name}"] = self._trainer.expression_net(x[name])
        return found

    def _losses(self, x: Inputs) -> Tensors:
        return self._terms(x, x["out"])

    def _code_gradients(self, x: Inputs) -> Tensors:
        out = x["out"].detach().clone().requires_grad_()
        return term_gradients(self._terms(x, out), out)

    def _terms(self, x: Inputs, out: Tensor) -> Tensors:
        """Legacy's own `training_step` with encoder and BiViT given and the raster recorded."""
        model = self._model
        data = {key: x[name].clone()[None] for name, key in _BATCH.items()}
        with ExitStack() as stack:
            stack.enter_context(returning(model.E_flame, (x["parameters"].clone(), None)))
            stack.enter_context(returning(model.BiViT, out))
            stack.enter_context(recorded_raster(x["face_ids"], x["barycentric"]))
            losses: Tensors = self._trainer.training_step(data, 0)[0]
        return losses

    def _gradients(self, x: Inputs) -> Tensors:
        self._model.BiViT.zero_grad()
        self._sequence(x)["out"].backward(x["cotangent"])
        found = parameter_gradients(self._trainer)
        self._model.BiViT.zero_grad()
        return found

    def _adam(self, x: Inputs) -> Tensors:
        """One update by the optimizer that legacy's Trainer configures; the weights are put back afterwards."""
        bivit, trainer = self._model.BiViT, self._trainer
        before = {key: value.detach().clone() for key, value in bivit.state_dict().items()}
        trainer.configure_optimizers()
        for key, parameter in bivit.named_parameters():
            parameter.data.copy_(x[f"parameter/{key}"])
            parameter.grad = x[f"gradient/{key}"].clone()
            moments = {name: x[f"{name}/{key}"].clone() for name in ("exp_avg", "exp_avg_sq")}
            trainer.opt.state[parameter] = {"step": torch.tensor(float(x["step"])), **moments}
        trainer.opt.step()
        found = {name: value.detach().clone() for name, value in adam_tensors(trainer).items()}
        bivit.load_state_dict(before)
        bivit.zero_grad(set_to_none=True)
        trainer.configure_optimizers()
        return found

    def _au_graph(self, x: Inputs) -> Tensors:
        return {"cl": self._model.AUNet(x["image"], use_gnn=True)[2]}

    def _au_classifier(self, x: Inputs) -> Tensors:
        return dict(zip(("tokens", "cl", "nodes"), self._trainer.AU_net(x["image"]), strict=True))

    def _expression(self, x: Inputs) -> Tensors:
        return {"features": self._trainer.expression_net(x["image"])}

    def _shape_render(self, x: Inputs) -> Tensors:
        # a step's renderer has moved the mesh by +10 before; render_shape adds its own
        full, face = self._model.render.render_shape(x["vertices"], x["projected"].clone(), images=x["image"])
        return {"face": face, "full": full}

    def _visualisation(self, x: Inputs) -> Tensors:
        self._model.eval()
        old, ours = self._model.encode(x["image"])
        opdict, visdict = self._model.decode(ours, old, vis_lmk=True, return_vis=True)
        return {"landmarks3d_vis": opdict["landmarks3d"], "render_images": visdict["render_images"]}

    def _loss_function(self, name: str, x: Inputs) -> Tensors:
        function: Callable[..., Tensor] = getattr(import_legacy("utils.lossfuncN"), name.removesuffix("_b1"))
        return {"value": function(*(x[argument].clone() for argument in _LOSS_ARGUMENTS[name]))}


_BATCH = {"image": "image_224", "landmark": "landmark", "landmark_dense": "landmark_dense", "mask": "mask"}


def term_gradients(losses: Mapping[str, Tensor], out: Tensor) -> Tensors:
    """Gradient of each term with respect to BiViT's output; zero where a term does not depend on it."""
    return {name: _gradient(value, out) for name, value in losses.items()}


def _gradient(value: Tensor, out: Tensor) -> Tensor:
    if not value.requires_grad:
        return torch.zeros_like(out)
    (gradient,) = torch.autograd.grad(value, out, retain_graph=True, allow_unused=True)
    return torch.zeros_like(out) if gradient is None else gradient


def parameter_gradients(trainer: Any) -> Tensors:
    """Gradient of every parameter of BiViT by its state-dict key; zeros where there is none."""
    return {
        key: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for key, parameter in trainer.mymodel.BiViT.named_parameters()
    }


def adam_tensors(trainer: Any) -> Tensors:
    """Moments and values of every parameter of BiViT after an update."""
    found: Tensors = {}
    for key, parameter in trainer.mymodel.BiViT.named_parameters():
        state = trainer.opt.state[parameter]
        found |= {f"exp_avg/{key}": state["exp_avg"], f"exp_avg_sq/{key}": state["exp_avg_sq"]}
        found[f"parameter/{key}"] = parameter
    return found
