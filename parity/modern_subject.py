"""Modern as a subject of the audit: its own training step, read at the fields of what the step returns."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from modern.clip import Clip
from modern.model import evaluating
from modern.train.step import StepOutput, make_optimizer, update
from parity.batch import Batch
from parity.draws import record_draws
from parity.modern_networks import Networks
from parity.modern_replay import Replay, clip_of
from parity.modern_taps import Taps, adam_tensors, parameter_gradients, structure, term_gradients
from parity.randomness import seed_everything
from parity.subject import Plan, Setup, Subject
from parity.trace import Trace, snapshot


def build_modern(setup: Setup) -> Subject:
    """Build modern from the same weights, head and settings as legacy.

    Raises:
        ValueError: on an unknown override, or weights that do not fit.
    """
    return ModernSubject(setup)


class ModernSubject:
    """The clean implementation."""

    name = "modern"

    def __init__(self, setup: Setup) -> None:
        self._device = setup.device
        self._networks = Networks(setup)
        self._model = self._networks.model
        self._replay = Replay(self._networks)

    def trace(self, batch: Batch, plan: Plan) -> Trace:
        """Run training steps, each on a fresh copy of `batch`; the weights are put back afterwards."""
        trace = Trace(subject=self.name)
        before = {name: snapshot(parameter) for name, parameter in self._model.sequence.named_parameters()}
        try:
            self._run(trace, batch, plan)
        finally:
            self._model.sequence.load_state_dict(before)
            self._model.zero_grad()
        return trace

    def replay(self, stage: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run one stage of the contract, or one of conform's extra functions, on given inputs.

        Raises:
            KeyError: unknown stage.
        """
        return self._replay(stage, inputs)

    def _run(self, trace: Trace, batch: Batch, plan: Plan) -> None:
        self._model.train()
        optimizer = make_optimizer(self._model, self._networks.config)
        seed_everything(plan.seed)
        for step in range(plan.steps):
            fresh = batch.fresh().to(self._device)
            clip = clip_of(fresh.tensors)
            with record_draws() as draws:
                output = self._networks.step.losses(clip)
                _put_forward(trace, Taps(self._model, output), step)
                if step == 0 and plan.term_gradients:
                    trace.put("code_gradients", term_gradients(output))
                update(optimizer, output.losses["all_loss"])
                draws.reaches([output.losses, list(self._model.parameters())])
            trace.draws += [{"step": step, **draw} for draw in draws.draws]
            if step in (0, plan.steps - 1):
                trace.put("gradients", parameter_gradients(self._model), step)
                trace.put("adam", adam_tensors(self._model, optimizer), step)
            self._put_prediction(trace, output, step)
            if step == 0:
                trace.structure = structure(output, _mutated(clip, batch))
                if draws.masks is not None:
                    trace.extras["dropout_masks"] = snapshot(draws.masks)
        trace.structure["shapes"] = {
            name: [list(tensor.shape), str(tensor.dtype)] for name, tensor in trace.tensors.items()
        }

    @torch.no_grad()
    def _put_prediction(self, trace: Trace, output: StepOutput, step: int) -> None:
        """What the updated BiViT says about the same features in evaluation mode."""
        with evaluating(self._model):
            out = self._model.sequence(output.encoding.afn_BTUC, output.encoding.global_feature_BT2048)
        trace.put("prediction", {"out": out}, step)


def _put_forward(trace: Trace, taps: Taps, step: int) -> None:
    for stage, tensors in taps.forward().items():
        trace.put(stage, tensors, step)
    if step == 0:
        trace.extras |= {name: snapshot(tensor) for name, tensor in taps.extras().items()}


def _mutated(clip: Clip, batch: Batch) -> list[str]:
    """Fields of the batch that the step changed."""
    after = {
        "image": clip.image_T3HW,
        "landmark": clip.landmark_T683,
        "landmark_dense": clip.landmark_dense_T1053,
        "mask": clip.mask_T3HW,
    }
    return [name for name, tensor in after.items() if not torch.equal(tensor.cpu(), batch.tensors[name].cpu())]
