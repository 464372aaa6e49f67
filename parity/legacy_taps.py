"""Reading legacy's tensors while its own code runs: forward hooks, and functions wrapped for the time of one step.

Nothing stays hooked or wrapped, and no tensor that legacy computes is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from torch import Tensor, nn

from parity.legacy_build import legacy_renderer
from parity.recorded_raster import recorded_barycentric
from parity.trace import snapshot

MESH = ("vertices", "landmarks2d", "landmarks3d", "landmarks_dense")


class Calls:
    """What each tapped function was given and returned, in call order. Inputs are copied, outputs kept as they are."""

    def __init__(self) -> None:
        self.inputs: dict[str, list[Any]] = {}
        self.outputs: dict[str, list[Any]] = {}

    def put(self, name: str, inputs: tuple[Any, ...], output: Any) -> None:
        """Note one call."""
        self.inputs.setdefault(name, []).append(inputs)
        self.outputs.setdefault(name, []).append(output)


@contextmanager
def tapped(trainer: Any) -> Iterator[Calls]:
    """Record every call of legacy's networks, FLAME, texture, renderer, encode and rasteriser."""
    model, calls = trainer.mymodel, Calls()
    modules = {
        "E_flame": model.E_flame,
        "AUNet": model.AUNet,
        "BiViT": model.BiViT,
        "flame": model.flame,
        "flametex": model.flametex,
        "expression_net": trainer.expression_net,
    }
    with ExitStack() as stack:
        for name, module in modules.items():
            stack.enter_context(hooked(module, name, calls))
        stack.enter_context(wrapped(model, "encode", calls))
        stack.enter_context(wrapped(model.render, "forward", calls, "render"))
        stack.enter_context(wrapped(model.render, "add_SHlight", calls))
        stack.enter_context(wrapped(legacy_renderer(), "rasterize_meshes", calls))
        yield calls


@contextmanager
def recorded_raster(face_ids_HW: Tensor, barycentric_HW3: Tensor) -> Iterator[None]:
    """While inside, legacy's rasteriser returns these faces; gradients of the coordinates flow to the given mesh."""

    def rasterize_meshes(meshes: Any, **_: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        corners = meshes.verts_packed()[meshes.faces_packed()]
        barycentric = recorded_barycentric(corners, face_ids_HW[None], barycentric_HW3[None])[..., None, :]
        nothing = barycentric.detach()[..., 0] * 0
        return face_ids_HW[None, ..., None].clone(), nothing, barycentric, nothing

    with mock.patch.object(legacy_renderer(), "rasterize_meshes", rasterize_meshes):
        yield


@contextmanager
def returning(module: nn.Module, output: Any) -> Iterator[None]:
    """While inside, `module` returns `output` whatever it is given."""
    with mock.patch.object(module, "forward", return_value=output):
        yield


@contextmanager
def hooked(module: nn.Module, name: str, calls: Calls) -> Iterator[None]:
    """Note every call of `module` under `name`."""
    handle = module.register_forward_hook(lambda _, inputs, output: calls.put(name, inputs, output))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def wrapped(owner: Any, attribute: str, calls: Calls, name: str | None = None) -> Iterator[None]:
    """Note every call of the function `owner.attribute`."""
    function: Callable[..., Any] = getattr(owner, attribute)

    def call(*args: Any, **kwargs: Any) -> Any:
        copies = tuple(snapshot(value) if isinstance(value, Tensor) else value for value in args)
        output = function(*args, **kwargs)
        calls.put(name or attribute, copies, output)
        return output

    with mock.patch.object(owner, attribute, call):
        yield


@contextmanager
def kept_modes(network: nn.Module) -> Iterator[None]:
    """Training and evaluation modes below `network` are afterwards what they were before."""
    modes = {module: module.training for module in network.modules()}
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def forward_stages(calls: Calls, opdict: dict[str, Tensor], losses: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Stage -> tensors of one training step, from the taps; features only where active terms computed them."""
    old, ours = calls.outputs["encode"][0]
    rendered, raster = calls.outputs["render"][0], calls.outputs["rasterize_meshes"][0]
    return {
        "encoder": dict(zip(("parameters", "global_feature"), calls.outputs["E_flame"][0], strict=True)),
        "action_units": dict(zip(("tokens", "afn"), calls.outputs["AUNet"][0], strict=True)),
        "sequence": {"out": calls.outputs["BiViT"][0]},
        "deca_codes": code_entries(old),
        "codes": code_entries(ours),
        "flame": dict(zip(MESH, calls.outputs["flame"][0], strict=True)),
        "flame_deca": {"vertices": calls.outputs["flame"][1][0]},
        "texture": {"albedo": calls.outputs["flametex"][0]},
        "projection": {
            "vertices": calls.inputs["render"][0][1],
            "landmarks2d": opdict["landmarks2d"],
            "landmarks3d": opdict["landmarks3d"],
            "landmarks_dense": opdict["mp_landmark"],
        },
        "normals": {"normals": rendered["normals"], "projected_normals": rendered["transformed_normals"]},
        "raster": raster_tensors(raster),
        "attributes": attribute_tensors(rendered, calls.inputs["add_SHlight"][0][0]),
        "shading": {"shading_images": rendered["shading_images"]},
        "rendering": {name: rendered[name] for name in ("albedo_images", "images")},
        "features": _features(calls),
        "losses": losses,
    }


def code_entries(codedict: dict[str, Tensor]) -> dict[str, Tensor]:
    """The six codes, without the images that legacy carries beside them."""
    return {name: codedict[name] for name in ("shape", "tex", "exp", "pose", "cam", "light")}


def raster_tensors(fragments: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Face ids [H,W] and barycentric coordinates [H,W,3] of the first mesh."""
    return {"face_ids": fragments[0][0, ..., 0], "barycentric": fragments[2][0, ..., 0, :]}


def attribute_tensors(rendered: dict[str, Tensor], normal_images: Tensor) -> dict[str, Tensor]:
    """What SRenderY interpolates; `normal_images` as they enter the shading, 0 for background."""
    return {
        "grid": rendered["grid"],
        "normal_images": normal_images,
        "alpha_images": rendered["alpha_images"],
        "pos_mask": rendered["pos_mask"],
        "face_region": rendered["v_colors"],
    }


def _features(calls: Calls) -> dict[str, Tensor]:
    found = {}
    if len(calls.outputs["AUNet"]) > 1:
        found["afn_image"], found["afn_rendered"] = (output[1] for output in calls.outputs["AUNet"][1:3])
    if "expression_net" in calls.outputs:
        found["emotion_image"], found["emotion_rendered"] = calls.outputs["expression_net"][:2]
    return found
