"""Single modules of modern's detail stage under the names by which conform asks for them; no stages of the audit."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from modern.detail.networks import condition_map
from modern.detail.perceptual import mrf, mrf_parts
from modern.weight_table import TABLES
from parity.modern_detail_networks import DetailNetworks
from parity.modern_taps import Tensors

Inputs = Mapping[str, Tensor]


class Modules:
    """Extra replays. The caller puts buffers and modes back."""

    def __init__(self, networks: DetailNetworks) -> None:
        self._networks, self._model = networks, networks.model

    @property
    def functions(self) -> dict[str, Callable[[Inputs], Tensors]]:
        """Name -> function of its inputs."""
        return {
            "E_detail": lambda x: {"out": self._model.detail_encoder(x["image"])},
            "D_detail": self._generator,
            "D": self._discriminator,
            "AUNet:eval": lambda x: self._action_units(x, False),
            "AUNet:train": lambda x: self._action_units(x, True),
            "ACG:as_used": self._classifier,
            "ACG:eval": self._classifier_eval,
            "IDMRF": self._mrf,
            "bce_logits_au": lambda x: {"out": F.binary_cross_entropy_with_logits(x["a"], x["b"])},
            "mrf_on_patches": self._mrf_on_patches,
        }

    def _generator(self, x: Inputs) -> Tensors:
        generator = self._model.generator
        return {"uv_z": generator(x["noise"], x["afn"]), "lin_cond": generator.conditioning(x["afn"])}

    def _discriminator(self, x: Inputs) -> Tensors:
        condition = condition_map(x["afn"], x["image"].shape[-1])
        return {"out": self._model.discriminator(x["image"], condition), "cond_map": condition}

    def _action_units(self, x: Inputs, training: bool) -> Tensors:
        network = self._model.action_units.train(training)
        found = dict(zip(("tokens", "afn", "cl"), network.with_probabilities(x["image"]), strict=True))
        if training:
            found |= {f"after/{TABLES['AUNet'].legacy(key)}": value for key, value in network.named_buffers()}
        return found

    def _classifier(self, x: Inputs) -> Tensors:
        return dict(zip(("tokens", "cl", "nodes"), self._networks.step.au_classifier(x["image"]), strict=True))

    def _classifier_eval(self, x: Inputs) -> Tensors:
        self._networks.step.au_classifier.eval()
        return self._classifier(x)

    def _mrf(self, x: Inputs) -> Tensors:
        network, picture = self._networks.perceptual, x["gen"].detach().clone().requires_grad_()
        style, content = mrf_parts(network, picture, x["tar"])
        loss = style + content
        with torch.no_grad():
            features = network(picture)
        parts = {"loss": loss, "style": style, "content": content}
        return {**parts, **features, "grad": torch.autograd.grad(loss, picture)[0]}

    def _mrf_on_patches(self, x: Inputs) -> Tensors:
        seen = x["vis_patch"]
        return {
            "mrf_unweighted": mrf(self._networks.perceptual, x["texture_patch"] * seen, x["texture_gt_patch"] * seen)
        }
