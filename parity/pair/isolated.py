"""An update judged by itself: the reference's own optimizer makes its step again, on the candidate's gradients.

Adam's first update is lr * g / (|g| + eps): where a gradient is about as small as eps, its rounding moves a weight by a
large part of lr, and which element that is no number of draws foresees. Given the same gradients, nothing is left but
the two optimizers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from parity.comparison import Drift
from parity.noise import Floors, widen
from parity.pair.generators import generators_kept
from parity.pair.names import Match, WeightMap
from parity.pair.outcome import compare_updates
from parity.pair.side import Side
from parity.perturb import perturbed


@dataclass(frozen=True, kw_only=True)
class Isolated:
    """Drifts by the keys of an update, "update/NAME".

    drifts: the candidate's update against the reference's step on the candidate's gradients. floors: that step against
    itself with these gradients moved by one ULP. inherited: that step against the reference's own update, so what the
    gradients' differences alone do. why_not: why the step could not be made again, "" if it was.
    """

    drifts: dict[str, Drift] = field(default_factory=dict)
    floors: Floors = field(default_factory=dict)
    inherited: dict[str, Drift] = field(default_factory=dict)
    why_not: str = ""


def isolate_update(
    before: Side, sides: tuple[Side, Side], weights: WeightMap, gradients: Mapping[str, Tensor], draws: int
) -> Isolated:
    """Make the reference's step again on `gradients` and hold the candidate's update against it.

    Args:
        before: the reference as it was before the step; is copied.
        sides: both sides after their updates.
        weights: candidate weight -> weights of the reference.
        gradients: of the candidate, as its backward pass left them, by the candidate's names.
        draws: how often the gradients are moved by one ULP for the floors.
    """
    if sides[0].hooks_lost:
        return Isolated(why_not="the step hooks are not copied; an adapter's optimizer(model) can be built again")
    mirrored = replace(weights, mirrored=True)
    with generators_kept():
        try:
            given = scattered(weights, gradients, dict(before.model.named_parameters()))
            again = _stepped(before, given)
            floors: Floors = {}
            for draw in range(draws):
                for key, drift in _apart(mirrored, (again, _stepped(before, perturbed(given, draw)))).items():
                    widen(floors, key, drift)
        except Exception as error:  # hooks of a step are the user's code
            kind = "" if isinstance(error, _CannotRedo) else f"{type(error).__name__}: "
            return Isolated(why_not=f"{kind}{error}")
    return Isolated(
        drifts=_apart(weights, (again, sides[1])), floors=floors, inherited=_apart(mirrored, (sides[0], again))
    )


class _CannotRedo(ValueError):
    """The candidate's gradients do not say what the reference's would be."""


def scattered(
    weights: WeightMap, gradients: Mapping[str, Tensor], parameters: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The candidate's gradients as the reference holds them: the inverse of each match's `gather`.

    Raises:
        ValueError: an element of the reference gets none, or more than one; in words.
    """
    found = {name: torch.zeros(p.shape, dtype=p.dtype, device=p.device) for name, p in parameters.items()}
    filled = {name: torch.zeros(parameter.numel(), dtype=torch.bool) for name, parameter in parameters.items()}
    for key, gradient in gradients.items():
        match = weights.matches.get(key)
        if match is None:
            raise _CannotRedo(f"the reference has no weight for the gradient of {key}")
        if gradient.layout is not torch.strided:
            raise _CannotRedo(f"the gradient of {key} is sparse")
        values = gradient.detach().reshape(-1)
        for name, here, own in _places(match, parameters):
            if filled[name][own].any():
                raise _CannotRedo(f"several weights of the candidate, {key} among them, are {name} of the reference")
            filled[name][own] = True
            found[name].view(-1)[own.to(values.device)] = values[here.to(values.device)].to(found[name].dtype)
    part = [name for name, mask in filled.items() if mask.any() and not mask.all()]
    if part:
        raise _CannotRedo(f"the candidate has a part of {part[0]} only")
    return {name: found[name] for name, mask in filled.items() if mask.any()}


def _places(match: Match, parameters: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Per weight of the reference: which elements of the candidate's come from it (mask), and from which of its own."""
    numbered, first, start = {}, {}, 0
    for name in match.reference:
        first[name], count = start, parameters[name].numel()
        numbered[name] = torch.arange(start, start + count, dtype=torch.float64).reshape(parameters[name].shape)
        start += count
    places = match.gather(numbered).reshape(-1).long()
    for name, offset in first.items():
        here = (places >= offset) & (places < offset + parameters[name].numel())
        yield name, here, places[here] - offset


def _stepped(before: Side, gradients: Mapping[str, Tensor]) -> Side:
    """A copy of `before` after one step on `gradients`, which stay as they are: hooks may scale them in place."""
    side = before.copied()
    assert side.optimizer is not None
    for name, parameter in side.model.named_parameters():
        parameter.grad = gradients[name].clone() if name in gradients else None
    side.optimizer.step()
    return side


def _apart(weights: WeightMap, sides: tuple[Side, Side]) -> dict[str, Drift]:
    values: dict[str, Drift] = {}
    compare_updates(weights, sides, values, {})
    return values
