"""Modern's coarse training loop without anything recorded."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.optim import Optimizer

from modern.train.step import make_optimizer, update
from modern.weight_table import TABLES
from parity.batch import Batch
from parity.modern_networks import Networks
from parity.modern_replay import clip_of
from parity.modern_taps import Taps, adam_tensors, parameter_gradients


class ModernLoop:
    """Forward, zero_grad, backward, update."""

    def __init__(self, networks: Networks, device: str) -> None:
        self._networks, self._model, self._device = networks, networks.model, device
        self.networks: Mapping[str, nn.Module] = {"model": networks.model, "expression_net": networks.expression}
        self.optimizers: Mapping[str, Optimizer] = {"adam": make_optimizer(networks.model, networks.config)}
        self.coder: nn.Module = networks.model.sequence

    def step(self, batch: Batch, number: int) -> dict[str, Tensor]:
        """One step; every tensor that it returns, read after the update."""
        self._model.train()
        output = self._networks.step.losses(clip_of(batch.fresh().to(self._device).tensors))
        update(self.optimizers["adam"], output.losses["all_loss"])
        stages = Taps(self._model, output).forward()
        return {f"{stage}/{name}": value.detach() for stage, part in stages.items() for name, value in part.items()}

    def updated(self) -> dict[str, Tensor]:
        """Gradients and Adam states of BiViT, by legacy keys."""
        gradients, adam = parameter_gradients(self._model), adam_tensors(self._model, self.optimizers["adam"])
        return {f"gradients/{key}": value for key, value in gradients.items()} | {
            f"adam/{key}": value for key, value in adam.items()
        }

    def trained(self) -> dict[str, Tensor]:
        """BiViT's parameters by legacy keys."""
        table = TABLES["BiViT"]
        return {table.legacy(name): parameter for name, parameter in self._model.sequence.named_parameters()}
