"""Modern's detail training loop without anything recorded."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.optim import Optimizer

from modern.detail.batch import DetailBatch
from modern.detail.step import make_optimizers
from modern.weight_table import TABLES
from parity.batch import Batch
from parity.modern_detail_networks import DetailNetworks
from parity.modern_detail_taps import PAINTERS, adam_tensors, forward_tensors, gradients, running_statistics

_DISCRIMINATOR, _GENERATOR = ("real", "fake", "D_loss"), ("adv_G", "content", "G_loss")


class ModernDetailLoop:
    """One `train_step` after the other."""

    def __init__(self, networks: DetailNetworks, device: str) -> None:
        self._networks, self._device = networks, device
        self.networks: Mapping[str, nn.Module] = networks.by_legacy_name
        self._both = make_optimizers(networks.model, networks.config)
        self.optimizers: Mapping[str, Optimizer] = {"G": self._both.generator, "D": self._both.discriminator}
        self.coder: nn.Module = networks.model.detail_encoder

    def step(self, batch: Batch, number: int) -> dict[str, Tensor]:
        """One step; every tensor that it returns."""
        self._networks.model.train()
        report = self._networks.step.train_step(detail_batch(batch.fresh().to(self._device)), self._both)
        stages = forward_tensors(report.output)
        stages |= {"d_losses": {name: report.losses[name] for name in _DISCRIMINATOR}}
        stages |= {"g_losses": {name: report.losses[name] for name in _GENERATOR}}
        return {f"{stage}/{name}": value.detach() for stage, part in stages.items() for name, value in part.items()}

    def updated(self) -> dict[str, Tensor]:
        """Gradients of the generator, Adam states of both optimizers, running statistics of ACG; by legacy keys."""
        stages: dict[str, dict[str, Tensor]] = {
            "g_gradients": {},
            "g_adam": {},
            "d_adam": adam_tensors(self.networks["D"], "D", self._both.discriminator),
            "buffers": {f"ACG/{key}": value for key, value in running_statistics(self.networks["ACG"], "ACG").items()},
        }
        for name in PAINTERS:
            found = gradients(self.networks[name], name)
            stages["g_gradients"] |= {f"{name}/{key}": value for key, value in found.items()}
            stages["g_adam"] |= adam_tensors(self.networks[name], name, self._both.generator, f"{name}/")
        return {f"{stage}/{key}": value for stage, part in stages.items() for key, value in part.items()}

    def trained(self) -> dict[str, Tensor]:
        """Parameters of E_detail, D_detail and D as `module/key`, by legacy keys."""
        return {
            f"{name}/{TABLES[name].legacy(key)}": value
            for name in (*PAINTERS, "D")
            for key, value in self.networks[name].named_parameters()
        }


def detail_batch(batch: Batch) -> DetailBatch:
    """The batch as modern's detail stage takes it."""
    return DetailBatch(image_B3HW=batch.image, mask_BHW=batch.face_mask_BHW, names=batch.frame_names)
