"""Replays beyond the stages: single modules of the detail fork, in use and disabled, as the recordings need them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from parity.legacy_detail_build import import_legacy_detail
from parity.legacy_detail_taps import Tensors
from parity.subject import DetailSetup

Inputs = Mapping[str, Tensor]
_INNER = ("conv1", *(f"{kind}{index}" for index in range(2, 8) for kind in ("conv", "norm")), "conv8")


class ExtraReplay:
    """Single modules with the setup's weights; modes and buffers are put back by the caller."""

    def __init__(self, trainer: Any, setup: DetailSetup) -> None:
        self._trainer, self._model, self._setup = trainer, trainer.deca, setup

    @torch.no_grad()
    def stage_E_detail(self, x: Inputs) -> Tensors:
        """Any image size."""
        return {"out": self._model.E_detail(x["image"])}

    @torch.no_grad()
    def stage_E_detail_activations(self, x: Inputs) -> Tensors:
        """L2 norms [14] of the outputs of convolutions and norms, interleaved, before the activations."""
        norms, encoder = {}, self._model.E_detail
        with ExitStack() as stack:
            for name in _INNER:

                def note(_: Any, __: Any, output: Tensor, name: str = name) -> None:
                    norms[name] = output.double().norm()

                stack.callback(getattr(encoder, name).register_forward_hook(note).remove)
            encoder(x["image"])
        return {"l2": torch.stack([norms[name] for name in _INNER])}

    @torch.no_grad()
    def stage_D_detail(self, x: Inputs) -> Tensors:
        """The generator and its condition."""
        found: Tensors = {}
        hook = self._model.D_detail.lin.register_forward_hook(lambda _, __, output: found.update(lin_cond=output))
        try:
            return {"uv_z": self._model.D_detail(x["noise"], x["afn"]), **found}
        finally:
            hook.remove()

    @torch.no_grad()
    def stage_D(self, x: Inputs) -> Tensors:
        """The discriminator and the picture it makes of the action units."""
        found: Tensors = {}
        hook = self._model.D.model.register_forward_pre_hook(lambda _, inputs: found.update(cond_map=inputs[0][:, 3:]))
        try:
            out = self._model.D(x["image"], x["afn"])
        finally:
            hook.remove()
        return {"out": out, **found}

    @torch.no_grad()
    def stage_AUNet_eval(self, x: Inputs) -> Tensors:
        """On stored statistics."""
        self._model.AUNet.eval()
        return dict(zip(("tokens", "afn", "cl"), self._model.AUNet(x["image"]), strict=True))

    @torch.no_grad()
    def stage_AUNet_train(self, x: Inputs) -> Tensors:
        """On batch statistics, and the running statistics afterwards."""
        net = self._model.AUNet
        found = dict(zip(("tokens", "afn", "cl"), net(x["image"]), strict=True))
        return found | {f"after/{key}": value for key, value in net.named_buffers()}

    @torch.no_grad()
    def stage_ACG_as_used(self, x: Inputs) -> Tensors:
        """Trunk on batch statistics, the rest on stored ones."""
        return dict(zip(("tokens", "cl", "nodes"), self._trainer.ACG(x["image"]), strict=True))

    @torch.no_grad()
    def stage_ACG_eval(self, x: Inputs) -> Tensors:
        """All on stored statistics."""
        self._trainer.ACG.eval()
        return self.stage_ACG_as_used(x)

    def stage_IDMRF(self, x: Inputs) -> Tensors:
        """The disabled term on pictures, its parts, the features of `gen`, and its gradient with respect to `gen`."""
        mrf, gen = self._trainer.mrf_loss, x["gen"].detach().clone().requires_grad_()
        loss = mrf(gen, x["tar"])
        (grad,) = torch.autograd.grad(loss, gen)
        with torch.no_grad():
            features = mrf.featlayer(gen)
        parts = {"loss": loss, "style": mrf.style_loss, "content": mrf.content_loss, "grad": grad}
        return parts | {name: features[name] for name in ("relu3_2", "relu4_2")}

    @torch.no_grad()
    def stage_mrf_on_patches(self, x: Inputs) -> Tensors:
        """The disabled term as its commented-out line has it, without its weights."""
        vis = x["vis_patch"]
        return {"mrf_unweighted": self._trainer.mrf_loss(x["texture_patch"] * vis, x["texture_gt_patch"] * vis)}

    def stage_bce_logits_au(self, x: Inputs) -> Tensors:
        """Probabilities taken for logits."""
        return {"out": nn.BCEWithLogitsLoss()(x["a"], x["b"])}

    def stage_AU_Feature_Loss(self, x: Inputs) -> Tensors:
        """The three numbers of a loss that is built and never called."""
        return {"out": torch.stack(list(self._trainer.au_feature_loss(x["a"], x["b"])))}

    def stage_AU_Feature_Loss_(self, x: Inputs) -> Tensors:
        """Its sibling, never built."""
        return {"out": import_legacy_detail("utils.lossfunc_AU_enc_dec_origT_adv").AU_Feature_Loss_()(x["a"], x["b"])}

    @torch.no_grad()
    def stage_TDC(self, x: Inputs) -> Tensors:
        """TDC without the line of its forward that always raises."""
        sizes = {"nfeat": 512, "nhid": 256, "noutput": 128, "dropout": 0.0, "alpha": 0.2, "nheads": 4, "batchsize": 1}
        tdc = self._disabled("TDC", "encoders_enc", "TDC", **sizes, detail_dim=2048, au_dim=512)
        batch, tokens = x["x"].shape[:2]
        return {"body_out": tdc.body(tdc.au_embedding(x["x"]), tdc.detail_embedding(x["y"]), batch, tokens)}

    @torch.no_grad()
    def stage_AUEncoder(self, x: Inputs) -> Tensors:
        """41 numbers from the action-unit features."""
        return {"out": self._disabled("AUEncoder", "encoders_au", "AUEncoder")(x["afn"])}

    @torch.no_grad()
    def stage_AUEncoder_encoders_enc(self, x: Inputs) -> Tensors:
        """50 numbers from the action-unit features."""
        return {"out": self._disabled("AUEncoder_encoders_enc", "encoders_enc", "AUEncoder")(x["afn"])}

    def _disabled(self, name: str, file: str, class_name: str, **arguments: Any) -> Any:
        if name not in self._setup.weights:
            raise KeyError(f"the setup holds no weights for the disabled module {name}")
        module = getattr(import_legacy_detail(f"models.{file}"), class_name)(**arguments)
        module.load_state_dict(dict(self._setup.weights[name]))
        return module.to(self._setup.device).eval()
