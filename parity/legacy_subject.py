"""Legacy as a subject of the audit: its own training step and loop order, read at taps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from parity.batch import Batch
from parity.draws import record_draws
from parity.legacy_build import build_trainer
from parity.legacy_replay import Replay, adam_tensors, parameter_gradients, term_gradients
from parity.legacy_taps import Calls, code_entries, forward_stages, tapped
from parity.randomness import seed_everything
from parity.subject import Plan, Setup, Subject
from parity.trace import Trace, snapshot

# Fields of the batch and their keys in legacy's batch dict.
_FIELDS = {"image": "image_224", "landmark": "landmark", "landmark_dense": "landmark_dense", "mask": "mask"}


def build_legacy(setup: Setup) -> Subject:
    """Build the legacy trainer from the setup's weights, head and dotted configuration overrides.

    Raises:
        ValueError: an override that legacy's configuration does not have.
    """
    return LegacySubject(setup)


class LegacySubject:
    """The lab's coarse fork, as reconstructed under legacy/AU_sequence."""

    name = "legacy"

    def __init__(self, setup: Setup) -> None:
        self._trainer = build_trainer(setup)
        self._replay = Replay(self._trainer)

    def trace(self, batch: Batch, plan: Plan) -> Trace:
        """Run training steps in the loop's order (step, zero_grad, backward, update), each on a fresh batch."""
        trainer, trace = self._trainer, Trace(subject=self.name)
        bivit = trainer.mymodel.BiViT
        before = {key: snapshot(value) for key, value in bivit.state_dict().items()}
        trainer.configure_optimizers()
        try:
            seed_everything(plan.seed)
            for step in range(plan.steps):
                self._step(trace, batch, plan, step)
        finally:
            bivit.load_state_dict(before)
            for module in (trainer.mymodel, trainer.expression_net, trainer.AU_net):
                module.zero_grad(set_to_none=True)
        trace.structure["shapes"] = {
            name: [list(value.shape), str(value.dtype)] for name, value in trace.tensors.items()
        }
        return trace

    def replay(self, stage: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run one stage of the contract, or one of conform's extra functions, on given inputs.

        Raises:
            KeyError: unknown stage.
        """
        return self._replay(stage, inputs)

    def _step(self, trace: Trace, batch: Batch, plan: Plan, step: int) -> None:
        trainer, data = self._trainer, batch.fresh().as_legacy()
        with record_draws() as draws, tapped(trainer) as calls:
            losses, opdict = trainer.training_step(data, step)
            draws.reaches(losses)
        for stage, tensors in forward_stages(calls, opdict, losses).items():
            trace.put(stage, tensors, step)
        if step == 0:
            self._facts(trace, calls, opdict, losses, batch, data)
            if draws.masks is not None:
                trace.extras["dropout_masks"] = draws.masks
            if plan.term_gradients:
                trace.put("code_gradients", term_gradients(losses, calls.outputs["BiViT"][0]))
        trace.draws += [{"step": step, **draw} for draw in draws.draws]
        trainer.opt.zero_grad()
        losses["all_loss"].backward()
        trainer.opt.step()
        if step in (0, plan.steps - 1):
            trace.put("gradients", parameter_gradients(trainer), step)
            trace.put("adam", adam_tensors(trainer), step)
        tokens = {"afn": calls.outputs["AUNet"][0][1], "global_feature": calls.outputs["E_flame"][0][1]}
        trace.put("prediction", self._replay("prediction", tokens), step)

    def _facts(
        self,
        trace: Trace,
        calls: Calls,
        opdict: dict[str, Tensor],
        losses: dict[str, Tensor],
        batch: Batch,
        data: dict[str, Any],
    ) -> None:
        old, ours = calls.outputs["encode"][0]
        trace.structure = {
            "codedict_keys": list(old),
            "codedict_our_keys": list(ours),
            "loss_keys": list(losses),
            "aliases": [
                [f"codedict/{name}", f"codedict_our/{name}"]
                for name, value in code_entries(old).items()
                if value.data_ptr() == ours[name].data_ptr()
            ],
            "mutated_inputs": [
                name for name, key in _FIELDS.items() if not torch.equal(data[key][0], batch.tensors[name])
            ],
        }
        trace.extras |= {
            "landmark_col2_after": snapshot(data["landmark"][0, :, :, 2]),
            "landmark_dense_col2_after": snapshot(data["landmark_dense"][0, :, :, 2]),
            "landmarks3d_world": snapshot(opdict["landmarks3d_world"]),
        }
        if "predicted_images" in opdict:
            trace.extras["predicted_images"] = snapshot(opdict["predicted_images"])
