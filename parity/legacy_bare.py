"""Legacy's own training loops, both forks, without anything recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from parity.batch import Batch
from parity.legacy_replay import adam_tensors, parameter_gradients

# Tensors that legacy's step returns -> where the contract has them.
_RETURNED = {
    "verts": "flame/vertices",
    "verts_old": "flame_deca/vertices",
    "landmarks2d": "projection/landmarks2d",
    "landmarks3d": "projection/landmarks3d",
    "mp_landmark": "projection/landmarks_dense",
    "rendered_images": "rendering/images",
    "grid": "attributes/grid",
    "alpha_images": "attributes/alpha_images",
    "v_colors": "attributes/face_region",
    "albedo": "texture/albedo",
}


class LegacyLoop:
    """The coarse fork's loop: step, zero_grad, backward, update (coarse spec 7)."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self.networks: Mapping[str, nn.Module] = {
            "model": trainer.mymodel,
            "expression_net": trainer.expression_net,
            "AU_net": trainer.AU_net,
        }
        self.optimizers: Mapping[str, Optimizer] = {"opt": trainer.opt}
        self.coder: nn.Module = trainer.mymodel.BiViT

    def step(self, batch: Batch, number: int) -> dict[str, Tensor]:
        """One step of the lab's loop; its losses and the pictures and meshes that it returns."""
        trainer = self._trainer
        losses, opdict = trainer.training_step(batch.fresh().as_legacy(), number)
        trainer.opt.zero_grad()
        losses["all_loss"].backward()
        trainer.opt.step()
        found = {f"losses/{name}": value.detach() for name, value in losses.items()}
        return found | {place: opdict[key].detach() for key, place in _RETURNED.items() if key in opdict}

    def updated(self) -> dict[str, Tensor]:
        """Gradients and Adam states of BiViT."""
        gradients, adam = parameter_gradients(self._trainer), adam_tensors(self._trainer)
        return {f"gradients/{key}": value for key, value in gradients.items()} | {
            f"adam/{key}": value for key, value in adam.items()
        }

    def trained(self) -> dict[str, Tensor]:
        """BiViT's parameters."""
        return dict(self._trainer.mymodel.BiViT.named_parameters())
