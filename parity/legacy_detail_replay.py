"""The detail fork's stages one at a time, on given inputs, each by the legacy code that computes it in a step.

Axes: B images, V vertices, S = 256 texels, H = W = 224 pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from parity.legacy_detail_build import import_legacy_detail
from parity.legacy_detail_extras import ExtraReplay
from parity.legacy_detail_partial import always, partial_step, patched
from parity.legacy_detail_taps import (
    CODES,
    TERMS,
    Tensors,
    preserved,
    raster_tensors,
    recorded_raster,
    running_statistics,
    tapped_detail,
)
from parity.legacy_detail_updates import UpdateReplay
from parity.subject import DetailSetup

Inputs = Mapping[str, Tensor]
_MESH_STAGES = ("flame", "projection", "normals", "raster", "attributes", "uv_surface")
# The settings that weigh each term; the fifth has none.
_WEIGHTS = {"photo_D": 1.0, "reg_z": 1.0, "reg_diff": 1.0, "reg_sym": 1.0}


class DetailReplay:
    """Runs single stages of a legacy detail trainer; weights, buffers, gradients and modes are put back."""

    def __init__(self, trainer: Any, setup: DetailSetup) -> None:
        self._trainer, self._model = trainer, trainer.deca
        self._has_head = setup.surface is None
        self._others = (UpdateReplay(trainer), ExtraReplay(trainer, setup))

    def __call__(self, stage: str, inputs: Inputs) -> Tensors:
        """Outputs of `stage`.

        Raises:
            KeyError: an unknown stage, or a stage of the mesh on a subject whose surface is given.
        """
        name = stage.replace(":", "_")
        owner = next((part for part in (self, *self._others) if hasattr(part, f"stage_{name}")), None)
        if owner is None:
            raise KeyError(f"the detail fork has no stage {stage!r}")
        if stage in _MESH_STAGES and not self._has_head:
            raise KeyError(f"stage {stage!r} needs a head; this subject has a given surface")
        with preserved(self._trainer), torch.set_grad_enabled(owner is not self):
            self._model.train()
            self._model.E_flame.eval()
            found = getattr(owner, f"stage_{name}")(inputs)
            return {key: value.detach().clone() for key, value in found.items()}

    def stage_encoder(self, x: Inputs) -> Tensors:
        """Codes of the frozen encoder, or the given ones in their place."""
        return {"parameters": self._model.E_flame(x["image"])}

    def stage_expression(self, x: Inputs) -> Tensors:
        """What EMOCA answers."""
        return {"exp": self._model.emoca.encode(batch={"image": x["image"]}, training=False)[1]}

    def stage_codes(self, x: Inputs) -> Tensors:
        """Legacy's own `encode` with its networks' outputs given."""
        model, image = self._model, x["parameters"].new_zeros(len(x["parameters"]), 3, 1, 1)
        with ExitStack() as stack:
            stack.enter_context(patched(model.E_flame, "forward", always(x["parameters"].clone())))
            stack.enter_context(patched(model.emoca, "encode", always((None, x["exp"]))))
            stack.enter_context(patched(model.E_detail, "forward", always(None)))
            stack.enter_context(patched(model.AUNet, "forward", always((None, None, None))))
            codes = model.encode(image, {})
        return {name: codes[name] for name in CODES}

    def stage_action_units(self, x: Inputs) -> Tensors:
        """Features on batch statistics."""
        return dict(zip(("tokens", "afn"), self._model.AUNet(x["image"], use_gnn=True)[:2], strict=True))

    def stage_detail_code(self, x: Inputs) -> Tensors:
        """E_detail."""
        return {"detailcode": self._model.E_detail(x["image"])}

    def stage_generator(self, x: Inputs) -> Tensors:
        """D_detail on what a step concatenates."""
        return {"uv_z": partial_step(self._trainer, x)["uv_z"]}

    def stage_flame(self, x: Inputs) -> Tensors:
        """The mesh and its landmarks in model space."""
        outputs = self._model.flame(shape_params=x["shape"], expression_params=x["exp"], pose_params=x["pose"])
        return dict(zip(("vertices", "landmarks2d", "landmarks3d"), outputs, strict=True))

    def stage_texture(self, x: Inputs) -> Tensors:
        """The albedo map."""
        return {"albedo": self._model.flametex(x["tex"])}

    def stage_projection(self, x: Inputs) -> Tensors:
        """Legacy's `decode`, the only place that projects the third kind of landmarks, under the names it reads."""
        codes = dict.fromkeys(("images", "shapecode", "expcode", "posecode", "texcode", "cam"), x["cam"])
        mesh = tuple(x[name] for name in ("vertices", "landmarks2d", "landmarks3d"))
        with (
            patched(self._model.flame, "forward", always(mesh)),
            patched(self._model.flametex, "forward", always(None)),
        ):
            found = self._model.decode(codes, rendering=False, vis_lmk=False, return_vis=False, use_detail=False)
        return {
            "vertices": found["trans_verts"],
            "landmarks2d": found["landmarks2d"],
            "landmarks3d": found["landmarks3d"],
        }

    def stage_normals(self, x: Inputs) -> Tensors:
        """Of the mesh in model space, and of the projected mesh after legacy has moved it."""
        util, faces = import_legacy_detail("utils.util"), self._model.render.faces
        faces = faces.expand(len(x["vertices"]), -1, -1)
        return {
            "normals": util.vertex_normals(x["vertices"], faces),
            "projected_normals": util.vertex_normals(moved(x["projected"]), faces),
        }

    def stage_raster(self, x: Inputs) -> Tensors:
        """The search for the visible face of each pixel."""
        render, mesh = self._model.render, moved(x["projected"])
        batch = len(mesh)
        with tapped_detail(self._trainer) as taps:
            render.rasterizer(mesh, render.faces.expand(batch, -1, -1), render.face_uvcoords.expand(batch, -1, -1, -1))
        return raster_tensors(taps.calls.outputs["rasterize_meshes"][0], render.faces.shape[1])

    def stage_attributes(self, x: Inputs) -> Tensors:
        """SRenderY on the recorded raster."""
        albedo = x["vertices"].new_zeros(len(x["vertices"]), 3, 2, 2)
        with recorded_raster(x["face_ids"], x["barycentric"], self._model.render.faces.shape[1]):
            ops = self._model.render(x["vertices"], x["projected"].clone(), albedo)
        return {name: ops[name] for name in ("grid", "alpha_images")}

    def stage_uv_surface(self, x: Inputs) -> Tensors:
        """Vertex vectors in texture space; the projected mesh as legacy has moved it."""
        world2uv = self._model.render.world2uv
        names = ("vertices", "normals", "projected_normals")
        return {f"uv_{name}": world2uv(x[name]) for name in names} | {"uv_projected": world2uv(moved(x["projected"]))}

    def stage_visibility(self, x: Inputs) -> Tensors:
        """The picture in texture space and which texels of it count."""
        at = partial_step(self._trainer, x)
        nonvis = {"nonvis": at["nonvis_mask"]} if "nonvis_mask" in at else {}
        return {"texture_gt": at["uv_texture_gt"], "vis": at["uv_vis_mask"], **nonvis}

    def stage_displacement(self, x: Inputs) -> Tensors:
        """Normals of the displaced surface."""
        return {"uv_detail_normals": partial_step(self._trainer, x)["uv_detail_normals"]}

    def stage_uv_shading(self, x: Inputs) -> Tensors:
        """Spherical harmonics on the detail normals."""
        return {"uv_shading": self._model.render.add_SHlight(x["uv_detail_normals"], x["light"])}

    def stage_uv_texture(self, x: Inputs) -> Tensors:
        """Albedo times shading."""
        return {"uv_texture": partial_step(self._trainer, x)["uv_texture"]}

    def stage_final_image(self, x: Inputs) -> Tensors:
        """The texture seen through the grid, pasted into the picture by the mask."""
        return {"final_image": partial_step(self._trainer, x)["final_image"]}

    def stage_patches(self, x: Inputs) -> Tensors:
        """The box of the face, enlarged."""
        at = partial_step(self._trainer, x)
        return {
            "texture_patch": at["uv_texture_patch"],
            "texture_gt_patch": at["uv_texture_gt_patch"],
            "vis_patch": at["uv_vis_mask_patch"],
        }

    def stage_au_probabilities(self, x: Inputs) -> Tensors:
        """The second action-unit network on the picture and on its reconstruction."""
        acg = self._trainer.ACG
        return {"input": acg(x["image"])[1], "target": acg(x["final_image"])[1]}

    def stage_buffers(self, x: Inputs) -> Tensors:
        """Running statistics of the second action-unit network after it saw the picture and its reconstruction."""
        self.stage_au_probabilities(x)
        return running_statistics("ACG", self._trainer.ACG)

    def stage_losses(self, x: Inputs) -> Tensors:
        """The five terms as configured, their sum, and the terms once more with every weight at 1."""
        weighted: Tensors = dict(partial_step(self._trainer, x)["losses"])
        self._trainer.cfg.loss.update(_WEIGHTS)
        plain = partial_step(self._trainer, x)["losses"]
        return weighted | {f"unweighted/{name}": plain[name] for name in TERMS}


def moved(projected_BV3: Tensor) -> Tensor:
    """The projected mesh after legacy's renderer has added 10 to its z."""
    shifted = projected_BV3.clone()
    shifted[:, :, 2] = shifted[:, :, 2] + 10
    return shifted
