"""What is kept of each step of a run: losses, codes, a sample of the weights, and a digest of every weight tensor.

Axes: N steps done (index 0 of weights is before the first step), L losses, K code entries, W sampled weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

from parity.aftermath import digest
from parity.files import write_atomically

SAMPLE = 512  # weights kept of each tensor, evenly spaced; equality is judged on digests of all of them
_SHORT = 16  # hex digits kept of a digest


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One run so far.

    names: loss terms. keys: trained tensors by legacy key, with their sizes in `counts`.
    losses: [N,L] float64. codes: [N,K]. weights: [N+1,W], the samples of all tensors one after the other.
    digests: N+1 times key -> digest.
    """

    names: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)
    codes: list[Tensor] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)
    digests: list[dict[str, str]] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """How many steps are done."""
        return len(self.losses)

    def first(self, steps: int) -> Curve:
        """Only the first `steps`."""
        return replace(
            self,
            losses=self.losses[:steps],
            codes=self.codes[:steps],
            weights=self.weights[: steps + 1],
            digests=self.digests[: steps + 1],
        )


def started(weights: Mapping[str, Tensor]) -> Curve:
    """A curve before its first step."""
    counts = [tensor.numel() for tensor in weights.values()]
    return Curve(keys=list(weights), counts=counts, weights=[_sample(weights)], digests=[_digests(weights)])


def extended(curve: Curve, losses: Mapping[str, Tensor], codes: Tensor, weights: Mapping[str, Tensor]) -> Curve:
    """`curve` with one more step."""
    values = torch.stack([value.detach().double().cpu() for value in losses.values()])
    return replace(
        curve,
        names=list(losses),
        losses=[*curve.losses, values],
        codes=[*curve.codes, codes.detach().flatten().cpu().clone()],
        weights=[*curve.weights, _sample(weights)],
        digests=[*curve.digests, _digests(weights)],
    )


def positions(count: int) -> Tensor:
    """Which of `count` elements are sampled."""
    return torch.linspace(0, count - 1, min(count, SAMPLE), dtype=torch.float64).round().long()


def write_curve(curve: Curve, path: Path) -> None:
    """Write atomically."""
    parts = {"losses": curve.losses, "codes": curve.codes, "weights": curve.weights}
    tensors = {name: torch.stack(values) for name, values in parts.items() if values}
    facts = {"names": curve.names, "keys": curve.keys, "counts": curve.counts, "digests": curve.digests}
    write_atomically(path, save(tensors, metadata={"facts": json.dumps(facts)}))


def read_curve(path: Path) -> Curve:
    """Read what `write_curve` wrote.

    Raises:
        FileNotFoundError: nothing there.
    """
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    facts = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["facts"])
    tensors = load(content)
    return Curve(**facts, **{name: list(tensors.get(name, ())) for name in ("losses", "codes", "weights")})


def _sample(weights: Mapping[str, Tensor]) -> Tensor:
    flat = (tensor.detach().reshape(-1) for tensor in weights.values())
    return torch.cat([values[positions(values.numel()).to(values.device)].float().cpu() for values in flat])


def _digests(weights: Mapping[str, Tensor]) -> dict[str, str]:
    return {key: digest(tensor)[:_SHORT] for key, tensor in weights.items()}
