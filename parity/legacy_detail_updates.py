"""Replays of the detail fork's gradients and updates, by its own `discriminator_step` and optimizers.

Axes: B images, S = 256 texels, H = W = 224 pixels. `<key>` is a state-dict key.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from parity.legacy_detail_build import network
from parity.legacy_detail_partial import StoppedError, partial_step, patched
from parity.legacy_detail_taps import GENERATOR, TERMS, Tensors, filled, frame_locals, gradients
from parity.trace import snapshot

Inputs = Mapping[str, Tensor]


class UpdateReplay:
    """Stages that differentiate or update; the caller puts weights, gradients and optimizers back."""

    def __init__(self, trainer: Any) -> None:
        self._trainer, self._model = trainer, trainer.deca

    def stage_discriminator(self, x: Inputs) -> Tensors:
        """D on the picture and on its reconstruction."""
        with torch.no_grad():
            return {
                "real": self._model.D(x["image"], x["afn"]),
                "fake": self._model.D(x["final_image"], x["afn"]),
            }

    def stage_d_losses(self, x: Inputs) -> Tensors:
        """Cross entropies against the smoothed labels."""
        outputs = [x["real"], x["fake"]]
        with self._given_outputs(outputs):
            at = self._discriminator_step(x["real"], x["real"], x["real"], {}, stop_at="optimizer_D")
        return {"real": at["d_loss_real"], "fake": at["d_loss_fake"], "D_loss": at["D_loss"]}

    def stage_d_gradients(self, x: Inputs) -> Tensors:
        """Gradient of D_loss by key of D; zeros where there is none."""
        self._discriminator_step(x["image"], x["final_image"], x["afn"], {}, stop_at="optimizer_D")
        return filled(self._model.D, gradients(self._model.D))

    def stage_d_adam(self, x: Inputs) -> Tensors:
        """One update of D by the optimizer that legacy configures."""
        return self._adam(x, "optimizer_D", {"": self._model.D})

    def stage_adversarial(self, x: Inputs) -> Tensors:
        """D after its update on the reconstruction."""
        self._load_discriminator(x)
        with torch.no_grad():
            return {"output": self._model.D(x["final_image"], x["afn"])}

    def stage_g_losses(self, x: Inputs) -> Tensors:
        """The generator's loss as legacy adds it up."""
        terms = {name: x[name] for name in TERMS}
        with self._given_outputs([x["output"]] * 3):
            at = self._discriminator_step(x["output"], x["output"], x["output"], terms, stop_at="optimizer_G")
        return {"adv_G": at["adv_loss"], "content": at["content_loss"], "G_loss": at["G_loss"]}

    def stage_map_gradients(self, x: Inputs) -> Tensors:
        """Gradient of each term, and of their sum, with respect to uv_z."""
        uv_z = x["uv_z"].detach().clone().requires_grad_()
        return map_gradients(partial_step(self._trainer, {**x, "uv_z": uv_z})["losses"], uv_z)

    def stage_map_cotangent(self, x: Inputs) -> Tensors:
        """Gradient of G_loss with respect to uv_z, D being as given."""
        uv_z = x["uv_z"].detach().clone().requires_grad_()
        found: list[Tensor] = []
        uv_z.register_hook(lambda gradient: found.append(snapshot(gradient)))
        given = {name: value for name, value in x.items() if not name.startswith("parameter/")}
        at = partial_step(self._trainer, {**given, "uv_z": uv_z})
        self._load_discriminator(x)
        with patched(self._trainer.optimizer_D, "step", lambda: None):  # D has been updated already
            self._discriminator_step(x["image"], at["final_image"], x["afn"], at["losses"], stop_at="optimizer_G")
        return {"G_loss": found[-1]}

    def stage_g_gradients(self, x: Inputs) -> Tensors:
        """Gradient of sum(uv_z * cotangent) by module and key of the generator."""
        given = {name: x[name] for name in ("image", "pose", "exp", "afn")}
        uv_z = partial_step(self._trainer, given, encoder=True)["uv_z"]
        for name in GENERATOR:
            network(self._trainer, name).zero_grad()
        (uv_z * x["cotangent"]).sum().backward()
        return generator_tensors(self._trainer, lambda module: filled(module, gradients(module)))

    def stage_g_adam(self, x: Inputs) -> Tensors:
        """One update of the generator by the optimizer that legacy configures."""
        return self._adam(x, "optimizer_G", {f"{name}/": network(self._trainer, name) for name in GENERATOR})

    def _adam(self, x: Inputs, optimizer: str, modules: Mapping[str, nn.Module]) -> Tensors:
        self._trainer.configure_optimizers()
        adam, owned = getattr(self._trainer, optimizer), {}
        with torch.no_grad():
            for prefix, module in modules.items():
                for key, parameter in module.named_parameters():
                    name = f"{prefix}{key}"
                    parameter.grad = None
                    if f"gradient/{name}" not in x:
                        continue
                    owned[name] = parameter
                    parameter.copy_(x[f"parameter/{name}"])
                    parameter.grad = x[f"gradient/{name}"].clone()
                    moments = {part: x[f"{part}/{name}"].clone() for part in ("exp_avg", "exp_avg_sq")}
                    adam.state[parameter] = {"step": torch.tensor(float(x["step"])), **moments}
        adam.step()
        return adam_tensors(adam, owned)

    def _load_discriminator(self, x: Inputs) -> None:
        with torch.no_grad():
            for key, parameter in self._model.D.named_parameters():
                if f"parameter/{key}" in x:
                    parameter.copy_(x[f"parameter/{key}"])

    @contextmanager
    def _given_outputs(self, outputs: list[Tensor]) -> Any:
        """D returns these, one call after the other, as leaves that legacy's backward passes can reach."""
        rest = iter([value.detach().clone().requires_grad_() for value in outputs])
        with patched(self._model.D, "forward", lambda *_: next(rest)):
            yield

    def _discriminator_step(
        self, image: Tensor, final_image: Tensor, afn: Tensor, losses: Mapping[str, Tensor], *, stop_at: str
    ) -> dict[str, Any]:
        """Local variables of legacy's step when the optimizer `stop_at` is about to act."""
        frames: dict[str, list[dict[str, Any]]] = {}

        def stop(*_: Any) -> None:
            raise StoppedError

        with ExitStack() as stack:
            hook = getattr(self._trainer, stop_at).register_step_pre_hook(stop)
            stack.callback(hook.remove)
            stack.enter_context(frame_locals(frames, self._trainer.discriminator_step))
            with suppress(StoppedError):
                self._trainer.discriminator_step(None, image, final_image, losses, {"afn": afn})
        return frames["discriminator_step"][0]


def map_gradients(losses: Mapping[str, Tensor], uv_z: Tensor) -> Tensors:
    """Gradient of each loss with respect to uv_z [B,1,S,S]; the graph is kept."""
    return {name: torch.autograd.grad(value, uv_z, retain_graph=True)[0] for name, value in losses.items()}


def generator_tensors(trainer: Any, read: Any) -> Tensors:
    """What `read` gives for E_detail and D_detail, under `<module>/<key>`."""
    return {f"{name}/{key}": value for name in GENERATOR for key, value in read(network(trainer, name)).items()}


def adam_tensors(adam: torch.optim.Optimizer, owned: Mapping[str, Tensor]) -> Tensors:
    """Value and moments of each parameter that the optimizer has updated, by name."""
    found: Tensors = {}
    for name, parameter in owned.items():
        if parameter in adam.state:
            state = adam.state[parameter]
            found |= {f"exp_avg/{name}": state["exp_avg"], f"exp_avg_sq/{name}": state["exp_avg_sq"]}
            found[f"parameter/{name}"] = parameter
    return found
