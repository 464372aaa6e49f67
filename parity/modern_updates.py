"""One update of two clips by the clean coarse model: in one batch, one after the other, or spread over processes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from modern.clip import Clip
from modern.train.step import CoarseStep
from parity.modern_networks import Networks
from parity.modern_taps import parameter_gradients
from parity.reproduce.run import Run
from parity.reproduce.watch import Watch

Clips = Sequence[Clip]
_PATIENCE = timedelta(minutes=5)  # with a process that has gone


def update_of_two(run: Run, networks: Networks, optimizer: Optimizer, clips: Clips, watch: Watch) -> None:
    """Update on `clips` as the run says; the loss is the mean over the parts, so equal parts weigh the same.

    `accumulate`: in `run.clips` parts, in one process. `distribute`: one clip after the other in `run.clips` processes,
    whose gradients are averaged by DDP over gloo.
    """
    watch.begin_steps()
    optimizer.zero_grad()
    if run.kind == "distribute":
        terms = _distributed(networks, clips)
    else:
        terms = _backward(networks.step, [clips] if run.clips == 1 else [[clip] for clip in clips])
    watch.put("losses", terms)
    optimizer.step()
    watch.step_done()
    watch.put("gradients", parameter_gradients(networks.model))
    watch.put("weights", dict(networks.model.sequence.named_parameters()))


def _backward(step: CoarseStep, parts: Sequence[Clips]) -> dict[str, Tensor]:
    """Add up gradients of the mean loss, part by part; the mean of each term."""
    terms: dict[str, Tensor] = {}
    for part in parts:
        losses = step.losses(part).losses
        (losses["all_loss"] / len(parts)).backward()
        for name, value in losses.items():
            terms[name] = terms.get(name, torch.zeros_like(value)) + value.detach() / len(parts)
    return terms


class _MeanLoss(nn.Module):
    """Wraps a step so that DDP sees a module: clips in, the mean of their losses out."""

    def __init__(self, step: CoarseStep) -> None:
        super().__init__()
        self.model, self._step = step.model, step

    def forward(self, clips: Clips) -> dict[str, Tensor]:
        """Each term, as a mean over clips taken one by one."""
        each = [self._step.losses(clip).losses for clip in clips]
        return {name: torch.stack([losses[name] for losses in each]).sum() / len(each) for name in each[0]}


def _distributed(networks: Networks, clips: Clips) -> dict[str, Tensor]:
    """This process's share of the clips through DDP; terms averaged over processes.

    The group is left open to the end of the process (`parity.reproduce.child`): destroyed right after a collective,
    gloo can wait for the interpreter while that waits for gloo.
    """
    dist.init_process_group("gloo", timeout=_PATIENCE)
    rank, world = dist.get_rank(), dist.get_world_size()
    # held until after the backward pass: with the wrapper go the hooks that average gradients, without a word
    wrapped = DistributedDataParallel(_MeanLoss(networks.step))
    losses = wrapped(clips[rank::world])
    losses["all_loss"].backward()
    terms = {name: value.detach().clone() for name, value in losses.items()}
    for value in terms.values():
        dist.all_reduce(value)
        value /= world
    return terms
