"""Modern's detail stage as a subject of the audit: its own training step, read at the fields of what it returns."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from modern.detail.batch import DetailBatch
from modern.detail.step import (
    DetailOptimizers,
    DetailOutput,
    DiscriminatorUpdate,
    GeneratorUpdate,
    make_optimizers,
)
from parity.batch import Batch
from parity.draws import record_draws
from parity.modern_detail_networks import DetailNetworks
from parity.modern_detail_replay import DetailReplay
from parity.modern_detail_taps import (
    PAINTERS,
    Calls,
    adam_tensors,
    dropped_parameters,
    forward_tensors,
    gradients,
    map_gradients,
    running_statistics,
)
from parity.modern_taps import CODES, Tensors
from parity.randomness import seed_everything
from parity.subject import DetailSetup, Plan, Subject
from parity.trace import Trace, snapshot

_FROZEN = ("AUNet", "ACG")


def build_modern_detail(setup: DetailSetup) -> Subject:
    """Build modern's detail stage from the same weights, head and settings as legacy.

    Raises:
        ValueError: on an unknown override, weights that do not fit, or neither head nor surface.
    """
    return ModernDetailSubject(setup)


class ModernDetailSubject:
    """The clean implementation."""

    name = "modern"

    def __init__(self, setup: DetailSetup) -> None:
        self._device = setup.device
        self._networks = DetailNetworks(setup)
        self._replay = DetailReplay(self._networks)

    def trace(self, batch: Batch, plan: Plan) -> Trace:
        """Run training steps, each on a fresh copy of `batch`; the subject is put back afterwards."""
        with self._networks.put_back():
            return _Run(self._networks, batch, plan, self._device).trace()

    def replay(self, stage: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run one stage of the contract, or one of conform's extra modules, on given inputs.

        Raises:
            KeyError: unknown stage, or a stage of the head where a surface replaces it.
        """
        return self._replay(stage, inputs)

    def step_once(self, batch: Batch) -> dict[str, float]:
        """One training step without taps, for timing; weights stay updated. Returns its losses."""
        self._networks.model.train()
        optimizers = make_optimizers(self._networks.model, self._networks.config)
        report = self._networks.step.train_step(_detail_batch(batch.to(self._device)), optimizers)
        return {name: float(value) for name, value in report.losses.items()}


class _Run:
    """The steps of one trace."""

    def __init__(self, networks: DetailNetworks, batch: Batch, plan: Plan, device: str) -> None:
        self._networks, self._batch, self._plan, self._device = networks, batch, plan, device
        self._by_name, self._step = networks.by_legacy_name, networks.step
        self._trace = Trace(subject=ModernDetailSubject.name)
        self._optimizers = make_optimizers(networks.model, networks.config)

    def trace(self) -> Trace:
        self._networks.model.train()
        seed_everything(self._plan.seed)
        for step in range(self._plan.steps):
            batch = _detail_batch(self._batch.fresh().to(self._device))
            counted = self._batches_tracked()
            with record_draws() as draws, Calls(self._by_name) as calls:
                leaked, output = self._run(batch, step)
                draws.reaches(list(self._networks.model.parameters()))
            self._trace.draws += [{"step": step, **draw} for draw in draws.draws]
            self._put_buffers(step)
            if step == 0:
                after = self._batches_tracked()
                self._trace.structure = {
                    **_codes_and_losses(output, batch, self._batch),
                    **self._ownership(leaked, calls),
                    "batchnorm_updates": {name: after[name] - counted[name] for name in _FROZEN},
                }
        self._trace.structure["shapes"] = {
            name: [list(tensor.shape), str(tensor.dtype)] for name, tensor in self._trace.tensors.items()
        }
        return self._trace

    def _run(self, batch: DetailBatch, step: int) -> tuple[list[str], DetailOutput]:
        """One training step, modern's own, with taps around its parts."""
        leaked: list[str] = []
        losses, discriminate, generate = self._step.losses, self._step.update_discriminator, self._step.update_generator

        def forward(batch: DetailBatch) -> DetailOutput:
            output = losses(batch)
            for stage, tensors in forward_tensors(output).items():
                self._trace.put(stage, tensors, step)
            if step == 0 and self._plan.term_gradients:
                self._trace.put("map_gradients", map_gradients(output))
            return output

        def update_discriminator(output: DetailOutput, optimizers: DetailOptimizers) -> DiscriminatorUpdate:
            judged = discriminate(output, optimizers)
            leaked.extend(name for name in PAINTERS if gradients(self._by_name[name], name))
            self._put_discriminator(judged, output, step)
            return judged

        def update_generator(output: DetailOutput, optimizers: DetailOptimizers) -> GeneratorUpdate:
            cotangent: list[Tensor] = []
            hook = output.decoding.uv_z_B1SS.register_hook(lambda gradient: cotangent.append(gradient.clone()))
            updated = generate(output, optimizers)
            hook.remove()
            self._put_generator(updated, cotangent[0], step)
            return updated

        tap = partial(mock.patch.object, self._step)
        with (
            tap("losses", forward),
            tap("update_discriminator", update_discriminator),
            tap("update_generator", update_generator),
        ):
            report = self._step.train_step(batch, self._optimizers)
        return leaked, report.output

    def _put_discriminator(self, judged: DiscriminatorUpdate, output: DetailOutput, step: int) -> None:
        put = self._trace.put
        put("discriminator", {"real": judged.real_B1hw, "fake": judged.fake_B1hw}, step)
        put("d_losses", judged.losses, step)
        if self._in_detail(step):
            found = gradients(self._by_name["D"], "D")
            put("d_gradients", {**dropped_parameters(self._networks.setup.weights["D"], "D"), **found}, step)
            put("d_adam", adam_tensors(self._by_name["D"], "D", self._optimizers.discriminator), step)
        self._put_after("D", output, step)

    def _put_generator(self, updated: GeneratorUpdate, cotangent: Tensor, step: int) -> None:
        put = self._trace.put
        put("adversarial", {"output": updated.judged_B1hw}, step)
        put("g_losses", updated.losses, step)
        put("map_cotangent", {"G_loss": cotangent}, step)
        if not self._in_detail(step):
            return
        for name in PAINTERS:
            found = gradients(self._by_name[name], name)
            put("g_gradients", {f"{name}/{key}": gradient for key, gradient in found.items()}, step)
        for name in PAINTERS:
            put("g_adam", adam_tensors(self._by_name[name], name, self._optimizers.generator, f"{name}/"), step)
        if self._plan.term_gradients:
            for name in PAINTERS:
                self._put_extras(f"after_G_backward/{name}", gradients(self._by_name[name], name), step)

    def _in_detail(self, step: int) -> bool:
        """Gradients and optimizer states are many: they are kept of the first and the last step."""
        return step in (0, self._plan.steps - 1)

    def _put_after(self, name: str, output: DetailOutput, step: int) -> None:
        """The discriminator's gradients after its own backward pass, and what legacy adds to them in the other.

        Modern does not compute the second, so it is computed here, at the updated weights as in legacy.
        """
        if not self._plan.term_gradients:
            return
        own = gradients(self._by_name[name], name)
        self._put_extras(f"after_D_backward/{name}", own, step)
        parameters = dict(self._by_name[name].named_parameters())
        judge = self._networks.model.discriminator.forward  # past the hooks, so that this call is not counted
        loss = self._step.adversarial_loss(judge(output.final_image_B3HW.detach(), self._step.condition(output)))
        added = torch.autograd.grad(loss, list(parameters.values()))
        both = {key: gradient + more for (key, gradient), more in zip(own.items(), added, strict=True)}
        self._put_extras(f"after_G_backward/{name}", both, step)

    def _put_buffers(self, step: int) -> None:
        statistics = running_statistics(self._by_name["ACG"], "ACG")
        self._trace.put("buffers", {f"ACG/{key}": value for key, value in statistics.items()}, step)
        self._put_extras("AUNet", running_statistics(self._by_name["AUNet"], "AUNet"), step)

    def _put_extras(self, prefix: str, tensors: Tensors, step: int) -> None:
        suffix = f"@{step}" if step else ""
        self._trace.extras |= {f"{prefix}/{key}{suffix}": snapshot(value) for key, value in tensors.items()}

    def _batches_tracked(self) -> dict[str, int]:
        return {name: int(self._by_name[name].state_dict()["trunk.bn1.num_batches_tracked"]) for name in _FROZEN}

    def _ownership(self, leaked: list[str], calls: Mapping[str, int]) -> dict[str, Any]:
        """Whose gradients exist after the step, what ran how often, what the optimizers own."""
        return {
            "unowned_gradients": {name: len(gradients(self._by_name[name], name)) for name in _FROZEN},
            "leaked_gradients": sorted(leaked),
            "discriminator_gradients_after_step": bool(gradients(self._by_name["D"], "D")),
            "module_calls": dict(calls),
            "optimizers": _optimizer_facts(self._optimizers),
        }


def _detail_batch(batch: Batch) -> DetailBatch:
    return DetailBatch(image_B3HW=batch.image, mask_BHW=batch.face_mask_BHW, names=batch.frame_names)


def _codes_and_losses(output: DetailOutput, used: DetailBatch, given: Batch) -> dict[str, Any]:
    after = {"image": (used.image_B3HW, given.image), "mask": (used.mask_BHW, given.face_mask_BHW)}
    return {
        "loss_keys": list(output.losses),
        "mutated_inputs": [name for name, (now, before) in after.items() if not torch.equal(now.cpu(), before.cpu())],
        "codedict_keys": list(CODES),
    }


def _optimizer_facts(optimizers: DetailOptimizers) -> dict[str, Any]:
    facts = {}
    for name, optimizer in (("G", optimizers.generator), ("D", optimizers.discriminator)):
        (group,) = optimizer.param_groups
        facts[name] = {"lr": group["lr"], "betas": list(group["betas"]), "tensors": len(group["params"])}
    return facts
