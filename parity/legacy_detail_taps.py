"""Reading the detail fork's tensors while its own code runs: hooks, wrapped functions, and frames' local variables.

Nothing stays hooked or wrapped, and no tensor that legacy computes is changed. Axes: B images, H W rows and columns.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from types import CodeType
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from parity.legacy_detail_build import NETWORKS, detail_renderer, network
from parity.legacy_taps import Calls, hooked, wrapped
from parity.quick_raster import rasterising, remembering
from parity.trace import snapshot

Tensors = dict[str, Tensor]
CODES = ("shape", "tex", "exp", "pose", "cam", "light")
TERMS = ("photo_detail", "z_reg", "z_diff", "z_sym", "au_feature_loss")
GENERATOR = ("E_detail", "D_detail")


@dataclass
class Taps:
    """What one training step and one discriminator step showed.

    calls: inputs and outputs of networks and functions, in call order.
    frames: function name -> its local variables when it returned (or was left by an exception), per call.
    uv_z_gradients: gradient that reached uv_z, per backward pass that goes so far.
    after_D_backward: module -> key -> gradient, read right before D's optimizer steps.
    """

    calls: Calls = field(default_factory=Calls)
    frames: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    uv_z_gradients: list[Tensor] = field(default_factory=list)
    after_D_backward: dict[str, Tensors] = field(default_factory=dict)

    def clear(self) -> None:
        """Let go of every tensor: uv_z's hook and the frames refer to each other, which keeps a graph alive."""
        self.calls = Calls()
        for noted in (self.frames, self.uv_z_gradients, self.after_D_backward):
            noted.clear()

    def locals_of(self, function: str) -> dict[str, Any]:
        """Local variables of the last call of `function`."""
        return self.frames[function][-1]


@contextmanager
def tapped_detail(trainer: Any) -> Iterator[Taps]:
    """Record what a step of `trainer` computes. Optimizers must not be replaced while inside."""
    model, taps = trainer.deca, Taps()
    modules = {name: network(trainer, name) for name in NETWORKS} | {"flame": model.flame, "flametex": model.flametex}
    with ExitStack() as stack:
        for name, module in modules.items():
            stack.enter_context(hooked(module, name, taps.calls))
        for owner, name in ((model, "encode"), (model.emoca, "encode")):
            stack.enter_context(wrapped(owner, name, taps.calls, "emoca" if owner is model.emoca else None))
        stack.enter_context(wrapped(model.render, "forward", taps.calls, "render"))
        stack.enter_context(wrapped(model.render, "world2uv", taps.calls))
        stack.enter_context(wrapped(detail_renderer(), "rasterize_meshes", taps.calls))
        stack.enter_context(_uv_z_gradients(model.D_detail, taps))
        hook = trainer.optimizer_D.register_step_pre_hook(lambda *_: _note_gradients(trainer, taps))
        stack.callback(hook.remove)
        stack.enter_context(frame_locals(taps.frames, trainer.training_step, trainer.discriminator_step))
        yield taps


def _note_gradients(trainer: Any, taps: Taps) -> None:
    for name in (*GENERATOR, "D"):
        taps.after_D_backward[name] = gradients(network(trainer, name))


@contextmanager
def _uv_z_gradients(generator: nn.Module, taps: Taps) -> Iterator[None]:
    """Tensor hooks are only told of the total gradient; they return None and so leave it as it is."""

    def watch(_: nn.Module, __: Any, uv_z: Tensor) -> None:
        if uv_z.requires_grad:
            uv_z.register_hook(lambda gradient: taps.uv_z_gradients.append(snapshot(gradient)))

    handle = generator.register_forward_hook(watch)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def frame_locals(found: dict[str, list[dict[str, Any]]], *functions: Callable[..., Any]) -> Iterator[None]:
    """Note the local variables of each of these functions when it is left, by return or by exception."""
    codes: dict[CodeType, str] = {function.__code__: function.__name__ for function in functions}
    before = sys.getprofile()

    def profile(frame: Any, event: str, _: Any) -> None:
        if event == "return" and frame.f_code in codes:
            found.setdefault(codes[frame.f_code], []).append(dict(frame.f_locals))

    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(before)


def cached_raster() -> AbstractContextManager[None]:
    """While inside, equal meshes are rasterised once.

    A step rasterises the texture layout four times and frozen codes give every step the same mesh. In the detail stage
    no mesh carries gradient: pixels are sampled with a detached grid.
    """
    return rasterising(detail_renderer(), remembering)


@contextmanager
def recorded_raster(face_ids_BHW: Tensor, barycentric_BHW3: Tensor, faces: int) -> Iterator[None]:
    """While inside, legacy's rasteriser returns these faces (0..F-1 in each image, -1 background)."""
    offset = torch.arange(len(face_ids_BHW), device=face_ids_BHW.device)[:, None, None] * faces
    packed = torch.where(face_ids_BHW < 0, face_ids_BHW, face_ids_BHW + offset)[..., None]

    def rasterize_meshes(*_: Any, **__: Any) -> tuple[Tensor, ...]:
        nothing = barycentric_BHW3[..., :1] * 0
        return packed.clone(), nothing, barycentric_BHW3[..., None, :].clone(), nothing

    with mock.patch.object(detail_renderer(), "rasterize_meshes", rasterize_meshes):
        yield


@contextmanager
def preserved(trainer: Any) -> Iterator[None]:
    """Put back afterwards: trained weights, every buffer, gradients, modes, optimizers and loss weights."""
    modules = list(trainer.deca.modules()) + list(trainer.ACG.modules())
    parameters = list(trainer.deca.parameters()) + list(trainer.ACG.parameters())
    buffers = [buffer for net in ("AUNet", "ACG") for buffer in network(trainer, net).buffers()]
    kept = [p for name in (*GENERATOR, "D") for p in network(trainer, name).parameters()] + buffers
    values = [tensor.detach().clone() for tensor in kept]
    grads, modes = [parameter.grad for parameter in parameters], [module.training for module in modules]
    optimizers, loss = (trainer.optimizer_G, trainer.optimizer_D), trainer.cfg.loss.clone()
    for parameter in parameters:
        parameter.grad = None
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in zip(kept, values, strict=True):
                tensor.copy_(value)
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = grad
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
        trainer.optimizer_G, trainer.optimizer_D = optimizers
        trainer.cfg.loss.update(loss)


def running_statistics(name: str, net: nn.Module) -> Tensors:
    """Running means and variances by `<name>/<key>`."""
    kept = ("running_mean", "running_var")
    return {f"{name}/{key}": value for key, value in net.named_buffers() if key.rsplit(".", 1)[-1] in kept}


def gradients(module: nn.Module) -> Tensors:
    """Copy of the gradient of each parameter that has one, by state-dict key."""
    return {key: snapshot(value.grad) for key, value in module.named_parameters() if value.grad is not None}


def filled(module: nn.Module, found: Tensors) -> Tensors:
    """`found` with zeros for parameters without a gradient."""
    return {key: found.get(key, torch.zeros_like(value)) for key, value in module.named_parameters()}


def raster_tensors(fragments: tuple[Tensor, ...], faces: int) -> Tensors:
    """Face ids [B,H,W], counted from 0 in each image, and barycentric coordinates [B,H,W,3]."""
    packed = fragments[0][..., 0]
    offset = torch.arange(len(packed), device=packed.device)[:, None, None] * faces
    return {"face_ids": torch.where(packed < 0, packed, packed - offset), "barycentric": fragments[2][..., 0, :]}


def forward_stages(taps: Taps, has_head: bool, faces: int) -> dict[str, Tensors]:
    """Stage -> tensors of one training step; without a head, stages of the mesh are left out."""
    calls, at = taps.calls, taps.locals_of("training_step")
    code, ops = calls.outputs["encode"][0], at["ops"]
    uv = ("uv_projected", "uv_projected_normals", "uv_vertices", "uv_normals")
    stages: dict[str, Tensors] = {
        "encoder": {"parameters": calls.outputs["E_flame"][0]},
        "expression": {"exp": calls.outputs["emoca"][0][1]},
        "codes": {name: code[name] for name in CODES},
        "action_units": dict(zip(("tokens", "afn"), calls.outputs["AUNet"][1][:2], strict=True)),
        "detail_code": {"detailcode": at["detailcode"]},
        "generator": {"uv_z": at["uv_z"]},
        "flame": dict(zip(("vertices", "landmarks2d", "landmarks3d"), calls.outputs["flame"][0], strict=True)),
        "texture": {"albedo": at["albedo"]},
        "projection": {"vertices": calls.inputs["render"][0][1], "landmarks2d": at["landmarks2d"]},
        "normals": {"normals": ops["normals"], "projected_normals": at["normals"]},
    }
    if has_head:
        stages["raster"] = raster_tensors(calls.outputs["rasterize_meshes"][0], faces)
        stages["attributes"] = {name: ops[name] for name in ("grid", "alpha_images")}
    else:
        for name in ("flame", "projection", "normals"):
            del stages[name]
        stages["attributes"] = {"grid": ops["grid"]}
    visible = {"texture_gt": at["uv_texture_gt"], "vis": at["uv_vis_mask"]}
    stages |= {
        "uv_surface": dict(zip(uv, calls.outputs["world2uv"], strict=True)),
        "visibility": visible | ({"nonvis": at["nonvis_mask"]} if "nonvis_mask" in at else {}),
        "displacement": {"uv_detail_normals": at["uv_detail_normals"]},
        "uv_shading": {"uv_shading": at["uv_shading"]},
        "uv_texture": {"uv_texture": at["uv_texture"]},
        "final_image": {"final_image": at["final_image"]},
        "patches": {
            "texture_patch": at["uv_texture_patch"],
            "texture_gt_patch": at["uv_texture_gt_patch"],
            "vis_patch": at["uv_vis_mask_patch"],
        },
        "au_probabilities": {"input": at["au_input"], "target": at["au_target"]},
        "losses": dict(at["losses"]),
    }
    return stages


def adversarial_stages(taps: Taps) -> dict[str, Tensors]:
    """Stage -> tensors of one discriminator step that are values, not gradients."""
    at = taps.locals_of("discriminator_step")
    return {
        "discriminator": {"real": at["output_real"], "fake": at["output_fake"]},
        "d_losses": {"real": at["d_loss_real"], "fake": at["d_loss_fake"], "D_loss": at["D_loss"]},
        "adversarial": {"output": at["output"]},
        "g_losses": {"adv_G": at["adv_loss"], "content": at["content_loss"], "G_loss": at["G_loss"]},
    }
