"""Legacy's own `training_step` with everything around the wanted lines given, so that single stages can be replayed.

`partial_step` puts stand-ins for networks, renderer and samplers in place, each returning what the stage's inputs say
(or zeros, where the wanted lines do not read it), lets legacy's code run, and hands back its local variables.
Axes: B images, S = 256 texels, H = W = 224 pixels. Names are those of the contract's stages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional as F

from parity.legacy_detail_build import import_legacy_detail
from parity.legacy_detail_taps import frame_locals

Inputs = Mapping[str, Tensor]
_PATCHES = ("texture_patch", "texture_gt_patch", "vis_patch")
_MAPS = ("uv_projected", "uv_projected_normals", "uv_vertices", "uv_normals")


class StoppedError(Exception):
    """Raised by a stand-in to leave legacy's code where a stage ends."""


def partial_step(trainer: Any, given: Inputs, *, encoder: bool = False) -> dict[str, Any]:
    """Local variables of a `training_step` whose surroundings are `given`; `encoder` lets E_detail run as it is."""
    size, texels = trainer.image_size, trainer.uv_size
    batch = len(next(iter(given.values())))
    blank = next(iter(given.values())).new_zeros(batch, 3, size, size, dtype=torch.float32)
    shapes = {"image": (3, size, size), "mask": (size, size), "grid": (size, size, 2), "albedo": (3, texels, texels)}
    shapes |= {"exp": (50,), "pose": (6,), "light": (9, 3), "afn": (27, 512), "detailcode": (128, 1, 1)}
    shapes |= {"uv_z": (1, texels, texels), "input": (41,), "target": (41,)} | dict.fromkeys(_MAPS, (3, texels, texels))
    full = {name: given[name] if name in given else blank.new_zeros(batch, *shape) for name, shape in shapes.items()}
    frames: dict[str, list[dict[str, Any]]] = {}
    data = {
        "image_224": full["image"][None],
        "landmark": blank.new_zeros(1, batch, 68, 3),
        "mask": full["mask"][None],
    }
    with ExitStack() as stack:
        for patch in _networks(trainer, given, full, blank, encoder) + _surface(trainer, given, full, blank):
            stack.enter_context(patch)
        stack.enter_context(_visibility(trainer, given))
        stack.enter_context(frame_locals(frames, trainer.training_step))
        trainer.training_step(data, 0)
    return frames["training_step"][0]


def patched(owner: Any, name: str, function: Callable[..., Any]) -> Any:
    """`owner.name` replaced by `function`; for a module, name its `forward`."""
    return mock.patch.object(owner, name, function)


def in_turn(*values: Any) -> Callable[..., Any]:
    """A function that returns the values one call after the other."""
    rest: Iterator[Any] = iter(values)
    return lambda *_, **__: next(rest)


def always(value: Any) -> Callable[..., Any]:
    """A function that returns `value` whatever it is given."""
    return lambda *_, **__: value


def _networks(trainer: Any, given: Inputs, full: Inputs, blank: Tensor, encoder: bool) -> list[Any]:
    model, batch = trainer.deca, len(blank)
    code = {name: full[name] for name in ("exp", "pose", "light")}
    code |= {"shape": blank.new_zeros(batch, 100), "tex": blank.new_zeros(batch, 50), "cam": blank.new_zeros(batch, 3)}
    vertices = blank.new_zeros(batch, int(model.render.faces.max()) + 1, 3)
    points = blank.new_zeros(batch, 68, 3)
    patches = [
        patched(model, "encode", always(code)),
        patched(model.flame, "forward", always((vertices, points, points))),
        patched(model.flametex, "forward", always(full["albedo"])),
        patched(model.AUNet, "forward", always((None, full["afn"], None))),
        patched(trainer, "transform", lambda images: images),  # for a picture only, and it would draw numbers
    ]
    if not encoder:
        patches.append(patched(model.E_detail, "forward", always(full["detailcode"])))
    if "uv_z" in given or "afn" not in given:
        patches.append(patched(model.D_detail, "forward", always(full["uv_z"])))
    if "input" in given and "target" not in given:
        patches.append(patched(trainer.ACG, "forward", _first(full["input"], trainer.ACG.forward)))
    else:
        outputs = ((None, full["input"], None), (None, full["target"], None))
        patches.append(patched(trainer.ACG, "forward", in_turn(*outputs)))
    return patches


def _first(probabilities: Tensor, forward: Callable[..., Any]) -> Callable[..., Any]:
    """The first call's probabilities are given, the second call runs as it is."""
    calls: list[Any] = []

    def run(images: Tensor) -> Any:
        calls.append(None)
        return (None, probabilities, None) if len(calls) == 1 else forward(images)

    return run


def _surface(trainer: Any, given: Inputs, full: Inputs, blank: Tensor) -> list[Any]:
    model = trainer.deca
    util = import_legacy_detail("utils.util")
    ops = {"grid": full["grid"], "images": blank, "alpha_images": blank[:, :1], "normals": None}
    maps = [full[name] for name in _MAPS]
    if "vis" in given:
        maps[1] = torch.full_like(maps[1], -1.0)  # every texel faces the viewer
    patches = [
        patched(model.render, "forward", always(ops)),
        patched(model.render, "render_shape", always(blank)),
        patched(model.render, "world2uv", in_turn(*maps)),
        patched(util, "vertex_normals", util.vertex_normals if "uv_vertices" in given else always(None)),
    ]
    if "uv_vertices" not in given:
        patches.append(patched(model, "displacement2normal", always(torch.zeros_like(maps[0]))))
    if "uv_texture" in given:  # legacy's product with a shading of ones
        patches.append(patched(model.flametex, "forward", always(given["uv_texture"])))
        patches.append(patched(model.render, "add_SHlight", always(torch.ones_like(given["uv_texture"]))))
    elif "uv_shading" in given:
        patches.append(patched(model.render, "add_SHlight", always(given["uv_shading"])))
    if "texture_patch" in given:
        patches.append(patched(F, "interpolate", in_turn(*(given[name] for name in _PATCHES))))
    if "nonvis" in given:
        patches.append(patched(util, "binary_erosion", always(1 - given["nonvis"])))
    return patches


@contextmanager
def _visibility(trainer: Any, given: Inputs) -> Iterator[None]:
    """Let legacy's product of three masks be the given `vis`: two of the factors are ones, except for the normals."""
    if "vis" not in given:
        yield
        return
    model, sample = trainer.deca, F.grid_sample
    mask, displace = model.uv_face_eye_mask, model.displacement2normal
    sampled = torch.cat([given["texture_gt"], given["vis"]], dim=1)

    def grid_sample(source: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return sampled if source.shape[1] == 4 else sample(source, *args, **kwargs)

    def displacement2normal(*args: Any) -> Tensor:
        model.uv_face_eye_mask = mask
        found: Tensor = displace(*args)
        model.uv_face_eye_mask = torch.ones_like(mask)
        return found

    model.uv_face_eye_mask = torch.ones_like(mask)
    try:
        with patched(F, "grid_sample", grid_sample), patched(model, "displacement2normal", displacement2normal):
            yield
    finally:
        model.uv_face_eye_mask = mask
