"""Legacy as a subject of the audit: its own training step and loop order, read at taps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from parity.aftermath import state_digests
from parity.bare import BareLoop
from parity.batch import Batch
from parity.draws import record_draws
from parity.legacy_bare import LegacyLoop
from parity.legacy_build import build_trainer, legacy_renderer
from parity.legacy_replay import Replay, adam_tensors, parameter_gradients, term_gradients
from parity.legacy_taps import Calls, code_entries, forward_stages, kept_modes, tapped
from parity.quick_raster import rasterising, shrunk
from parity.randomness import seed_everything
from parity.subject import Observable, Plan, Setup
from parity.trace import Trace, snapshot

# Fields of the batch and their keys in legacy's batch dict.
_FIELDS = {"image": "image_224", "landmark": "landmark", "landmark_dense": "landmark_dense", "mask": "mask"}


def build_legacy(setup: Setup) -> Observable:
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
        trace = Trace(subject=self.name)
        with self.bare() as loop:
            seed_everything(plan.seed)
            for step in range(plan.steps):
                self._step(trace, batch, plan, step)
            if plan.digests:
                trace.aftermath = state_digests(loop.networks, loop.optimizers)
        trace.structure["shapes"] = {
            name: [list(value.shape), str(value.dtype)] for name, value in trace.tensors.items()
        }
        return trace

    @contextmanager
    def bare(self) -> Iterator[BareLoop]:
        """The loop without taps, its optimizer fresh; weights and gradients are put back afterwards."""
        trainer = self._trainer
        bivit = trainer.mymodel.BiViT
        before = {key: snapshot(value) for key, value in bivit.state_dict().items()}
        trainer.configure_optimizers()
        try:
            yield LegacyLoop(trainer)
        finally:
            bivit.load_state_dict(before)
            for module in (trainer.mymodel, trainer.expression_net, trainer.AU_net):
                module.zero_grad(set_to_none=True)

    def touched(self) -> list[object]:
        """What taps may hook or patch: networks, and the trainer itself."""
        trainer = self._trainer
        return [trainer, trainer.mymodel, trainer.expression_net, trainer.AU_net]

    def quick(self, pixels: int) -> AbstractContextManager[None]:
        """While inside, pictures are rasterised at `pixels` x `pixels`."""
        return rasterising(legacy_renderer(), partial(shrunk, pixels=pixels))

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
            gradients, adam = ("gradients", parameter_gradients(trainer)), ("adam", adam_tensors(trainer))
            trace.put_update(gradients, adam, step, last=step == plan.steps - 1)
        tokens = {"afn": calls.outputs["AUNet"][0][1], "global_feature": calls.outputs["E_flame"][0][1]}
        with kept_modes(trainer.mymodel):
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
