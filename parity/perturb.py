"""Harmless changes: every float moved by -1, 0 or +1 unit in the last place, reproducibly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from parity.batch import Batch


def one_ulp(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """A copy of `tensor` in which each float element moves by -1, 0 or +1 ULP with equal chance.

    Zeros stay zero (they are padding, masks and one-hot values far more often than measured numbers), and integer and
    bool tensors are returned as copies: a face id has no last place.
    """
    if not tensor.is_floating_point():
        return tensor.clone()
    step = torch.randint(-1, 2, tensor.shape, generator=generator).to(tensor.device)
    target = torch.where(step > 0, torch.inf, -torch.inf).to(tensor.dtype)
    moved = torch.nextafter(tensor, target)
    return torch.where((step == 0) | (tensor == 0), tensor, moved)


def perturbed(inputs: Mapping[str, Tensor], draw: int) -> dict[str, Tensor]:
    """All of `inputs` moved by one ULP; `draw` seeds the moves."""
    generator = torch.Generator().manual_seed(draw)
    return {name: one_ulp(tensor, generator) for name, tensor in inputs.items()}


def perturbed_batch(batch: Batch, draw: int) -> Batch:
    """The batch with its pixels moved by one ULP, kept within 0..1."""
    return replace(batch, image=perturbed({"image": batch.image}, draw)["image"].clamp(0, 1))
