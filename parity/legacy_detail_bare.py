"""The detail fork's own training loop without anything recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from parity.batch import Batch
from parity.legacy_detail_build import NETWORKS, network
from parity.legacy_detail_taps import CODES, GENERATOR, filled, gradients, running_statistics
from parity.legacy_detail_updates import adam_tensors, generator_tensors


class LegacyDetailLoop:
    """Training step, the drawn and ignored picture transform, discriminator step, as in `fit` (detail spec 5)."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self.networks: Mapping[str, nn.Module] = {name: network(trainer, name) for name in NETWORKS}
        self.optimizers: Mapping[str, Optimizer] = {"G": trainer.optimizer_G, "D": trainer.optimizer_D}
        self.coder: nn.Module = trainer.deca.E_detail

    def step(self, batch: Batch, number: int) -> dict[str, Tensor]:
        """One step of the lab's loop: its losses, codes, mesh and the final picture."""
        trainer = self._trainer
        losses, opdict, final_image, codedict = trainer.training_step(batch.fresh().as_legacy_detail(), number)
        cond_img = trainer.transform(opdict["images"].cpu()).to(trainer.device)
        D_loss, G_loss = trainer.discriminator_step(cond_img, opdict["images"], final_image, losses, codedict)
        found = {f"losses/{name}": value for name, value in losses.items()}
        found |= {"d_losses/D_loss": D_loss, "g_losses/G_loss": G_loss, "final_image/final_image": final_image}
        found |= {"flame/vertices": opdict["verts"], "action_units/afn": codedict["afn"]}
        found |= {f"codes/{name}": codedict[name] for name in CODES}
        return {name: value.detach() for name, value in found.items()}

    def updated(self) -> dict[str, Tensor]:
        """Gradients of the generator, Adam states of both optimizers, running statistics of ACG."""
        trainer = self._trainer
        owned = generator_tensors(trainer, lambda module: dict(module.named_parameters()))
        stages = {
            "g_gradients": generator_tensors(trainer, lambda module: filled(module, gradients(module))),
            "g_adam": adam_tensors(trainer.optimizer_G, owned),
            "d_adam": adam_tensors(trainer.optimizer_D, dict(trainer.deca.D.named_parameters())),
            "buffers": running_statistics("ACG", trainer.ACG),
        }
        return {f"{stage}/{key}": value for stage, part in stages.items() for key, value in part.items()}

    def trained(self) -> dict[str, Tensor]:
        """Parameters of E_detail, D_detail and D as `module/key`."""
        names = (*GENERATOR, "D")
        return {f"{name}/{key}": value for name in names for key, value in self.networks[name].named_parameters()}
