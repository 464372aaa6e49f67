"""The lab's detail fork as a subject of the audit: its own two steps in the loop's order, read at taps."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from parity.batch import Batch
from parity.draws import record_draws
from parity.legacy_detail_build import NETWORKS, build_detail_trainer, network
from parity.legacy_detail_replay import DetailReplay
from parity.legacy_detail_taps import (
    GENERATOR,
    Taps,
    adversarial_stages,
    cached_raster,
    filled,
    forward_stages,
    gradients,
    preserved,
    tapped_detail,
)
from parity.legacy_detail_updates import adam_tensors, generator_tensors, map_gradients
from parity.randomness import seed_everything
from parity.subject import DetailSetup, Plan, Subject
from parity.trace import Trace, snapshot


def build_legacy_detail(setup: DetailSetup) -> Subject:
    """Build the legacy detail trainer from the setup's weights, head or surface, and configuration overrides.

    Raises:
        ValueError: an override that legacy's configuration does not have, or neither head nor surface.
    """
    return LegacyDetailSubject(setup)


class LegacyDetailSubject:
    """The lab's detail fork, as reconstructed under legacy/AUcGAN."""

    name = "legacy"

    def __init__(self, setup: DetailSetup) -> None:
        self._trainer, self._has_head = build_detail_trainer(setup), setup.surface is None
        self._replay = DetailReplay(self._trainer, setup)

    def trace(self, batch: Batch, plan: Plan) -> Trace:
        """Run training and discriminator steps in the loop's order, each on a fresh batch.

        Without a head, the stages of the mesh (flame, projection, normals, raster, alpha_images) are left out.
        """
        trace = Trace(subject=self.name)
        with ExitStack() as stack:
            stack.enter_context(preserved(self._trainer))
            if self._has_head:
                stack.enter_context(cached_raster())
            self._trainer.configure_optimizers()
            seed_everything(plan.seed)
            for step in range(plan.steps):
                self._step(trace, batch, plan, step)
        trace.structure["shapes"] = {
            name: [list(value.shape), str(value.dtype)] for name, value in trace.tensors.items()
        }
        return trace

    def step_once(self, batch: Batch) -> dict[str, float]:
        """One training step without taps, for timing; weights stay updated. Returns its losses."""
        trainer, data = self._trainer, batch.fresh().as_legacy_detail()
        losses, opdict, final_image, codedict = trainer.training_step(data, 0)
        cond_img = trainer.transform(opdict["images"].cpu()).to(trainer.device)
        D_loss, G_loss = trainer.discriminator_step(cond_img, opdict["images"], final_image, losses, codedict)
        return {name: float(value.detach()) for name, value in {**losses, "D_loss": D_loss, "G_loss": G_loss}.items()}

    def economical(self) -> AbstractContextManager[None]:
        """While inside, equal meshes are rasterised once; for measuring noise, where repeating proves nothing."""
        return cached_raster()

    def replay(self, stage: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run one stage of the contract, or one of conform's extra modules, on given inputs.

        Raises:
            KeyError: an unknown stage, or a stage of the mesh on a subject whose surface is given.
        """
        return self._replay(stage, inputs)

    def _step(self, trace: Trace, batch: Batch, plan: Plan, step: int) -> None:
        trainer, data = self._trainer, batch.fresh().as_legacy_detail()
        updates = {name: _batchnorm_updates(network(trainer, name)) for name in ("AUNet", "ACG")}
        with record_draws() as draws, tapped_detail(trainer) as taps:
            losses, opdict, final_image, codedict = trainer.training_step(data, step)
            terms = self._term_gradients(taps, losses) if plan.term_gradients and step == 0 else None
            taps.uv_z_gradients.clear()  # what the terms' own gradients have left
            cond_img = trainer.transform(opdict["images"].cpu()).to(trainer.device)  # drawn and ignored, as in the loop
            trainer.discriminator_step(cond_img, opdict["images"], final_image, losses, codedict)
            draws.reaches(
                [losses, [p for name in ("E_detail", "D_detail", "D") for p in network(trainer, name).parameters()]]
            )
        for stage, tensors in self._forward(taps).items():
            trace.put(stage, tensors, step)
        if terms is not None:
            trace.put("map_gradients", terms, step)
        self._updates(trace, taps, step, full=step in (0, plan.steps - 1))
        trace.draws += [{"step": step, **draw} for draw in draws.draws]
        self._extras(trace, taps, plan, step)
        if step == 0:
            done = {name: _batchnorm_updates(network(trainer, name)) - count for name, count in updates.items()}
            trace.structure = self._facts(taps, codedict, losses, batch, data) | {"batchnorm_updates": done}
        taps.clear()

    def _forward(self, taps: Taps) -> dict[str, dict[str, Tensor]]:
        stages = forward_stages(taps, self._has_head, self._trainer.deca.render.faces.shape[1])
        if "projection" in stages:  # a step never projects these; legacy's decode does
            mesh = stages["flame"] | {"cam": stages["codes"]["cam"]}
            stages["projection"]["landmarks3d"] = self._replay("projection", mesh)["landmarks3d"]
        at = taps.locals_of("training_step")
        inputs = stages["patches"] | stages["au_probabilities"] | {"uv_shading": at["uv_shading"]}
        inputs |= {"uv_z": at["uv_z"], "nonvis": stages["visibility"]["nonvis"]}
        plain = self._replay("losses", inputs)
        stages["losses"] |= {name: value for name, value in plain.items() if name.startswith("unweighted/")}
        return stages

    def _term_gradients(self, taps: Taps, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = map_gradients(losses, taps.calls.outputs["D_detail"][0])
        return {name: snapshot(value) for name, value in found.items()}

    def _updates(self, trace: Trace, taps: Taps, step: int, *, full: bool) -> None:
        trainer, at = self._trainer, adversarial_stages(taps)
        discriminator = trainer.deca.D
        trace.put("discriminator", at["discriminator"], step)
        trace.put("d_losses", at["d_losses"], step)
        if full:
            trace.put("d_gradients", filled(discriminator, taps.after_D_backward["D"]), step)
            trace.put("d_adam", adam_tensors(trainer.optimizer_D, dict(discriminator.named_parameters())), step)
        trace.put("adversarial", at["adversarial"], step)
        trace.put("g_losses", at["g_losses"], step)
        trace.put("map_cotangent", {"G_loss": taps.uv_z_gradients[1]}, step)
        if full:
            owned = generator_tensors(trainer, lambda module: dict(module.named_parameters()))
            trace.put("g_gradients", generator_tensors(trainer, lambda module: filled(module, gradients(module))), step)
            trace.put("g_adam", adam_tensors(trainer.optimizer_G, owned), step)
        trace.put("buffers", _statistics("ACG", trainer.ACG), step)

    def _extras(self, trace: Trace, taps: Taps, plan: Plan, step: int) -> None:
        found = _statistics("AUNet", self._trainer.deca.AUNet)
        if plan.term_gradients:
            found["uv_z_gradient_of_D"] = taps.uv_z_gradients[0]
            for name in (*GENERATOR, "D"):
                after_G = gradients(network(self._trainer, name))
                found |= {f"after_D_backward/{name}/{key}": value for key, value in taps.after_D_backward[name].items()}
                found |= {f"after_G_backward/{name}/{key}": value for key, value in after_G.items()}
        suffix = f"@{step}" if step else ""
        trace.extras |= {f"{name}{suffix}": snapshot(value) for name, value in found.items()}

    def _facts(
        self,
        taps: Taps,
        codedict: Mapping[str, Tensor],
        losses: Mapping[str, Tensor],
        batch: Batch,
        data: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Plain facts of the first step, read after it."""
        trainer, given = self._trainer, batch.as_legacy_detail()
        fields = {"image": "image_224", "landmark": "landmark", "landmark_dense": "landmark_dense", "mask": "mask"}
        return {
            "loss_keys": list(losses),
            "mutated_inputs": [name for name, key in fields.items() if not torch.equal(data[key], given[key])],
            "codedict_keys": list(codedict),
            "unowned_gradients": {name: len(gradients(network(trainer, name))) for name in ("AUNet", "ACG")},
            "leaked_gradients": sorted(name for name in GENERATOR if taps.after_D_backward[name]),
            "discriminator_gradients_after_step": bool(gradients(trainer.deca.D)),
            "module_calls": {name: len(taps.calls.outputs[name]) for name in NETWORKS},
            "optimizers": {
                name: _optimizer_facts(optimizer)
                for name, optimizer in (("G", trainer.optimizer_G), ("D", trainer.optimizer_D))
            },
        }


def _batchnorm_updates(net: Any) -> int:
    return int(net.backbone.bn1.num_batches_tracked)


def _statistics(name: str, net: nn.Module) -> dict[str, Tensor]:
    """Running statistics by `<name>/<key>`."""
    kept = ("running_mean", "running_var")
    return {f"{name}/{key}": value for key, value in net.named_buffers() if key.rsplit(".", 1)[-1] in kept}


def _optimizer_facts(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    group = optimizer.param_groups[0]
    return {"lr": group["lr"], "betas": list(group["betas"]), "tensors": len(group["params"])}
