"""What a step leaves behind - gradients, buffers, optimizer state, updated weights - compared by the weight map."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from parity.comparison import Drift, compare
from parity.pair.names import WeightMap
from parity.pair.side import Side, step_hooks

Known = Callable[[Tensor, Tensor], Drift | None]


def compare_outcome(
    weights: WeightMap, sides: tuple[Side, Side], values: dict[str, Drift], unpaired: dict[str, int], known: Known
) -> None:
    """Add drifts of gradients and buffers, make each optimizer's update, and add those of its state and weights.

    known: the drift of two tensors if it was taken before.

    values: gets "gradients/NAME", "buffers/NAME", "update/STATE of NAME" and "update/NAME", by the candidate's names.
    unpaired: gets those that one side only has, with the side (0: reference).
    """
    gradients = [
        {name: parameter.grad for name, parameter in side.model.named_parameters() if parameter.grad is not None}
        for side in sides
    ]
    _gathered("gradients", weights, gradients, values, unpaired, known=known)
    buffers = [dict(side.model.named_buffers()) for side in sides]
    _gathered("buffers", weights, buffers, values, unpaired)
    for side in sides:
        if side.optimizer is not None:
            side.optimizer.step()
    if all(side.optimizer is not None for side in sides):
        compare_updates(weights, sides, values, unpaired)


def pair_up(
    stage: str,
    left: Mapping[str, Tensor],
    right: Mapping[str, Tensor],
    values: dict[str, Drift],
    unpaired: dict[str, int],
) -> None:
    """Compare tensors of equal names."""
    for name in dict.fromkeys([*left, *right]):
        if name in left and name in right:
            values[f"{stage}/{name}"] = compare(left[name], right[name])
        else:
            unpaired[f"{stage}/{name}"] = int(name in right)


def compare_updates(
    weights: WeightMap, sides: tuple[Side, Side], values: dict[str, Drift], unpaired: dict[str, int]
) -> None:
    """Compare what an update has left: gradients that step hooks changed, optimizer state, weights.

    values: gets "update/STATE of NAME", "update/NAME" and, if both sides have step hooks, "update/gradient after step
    hooks of NAME".
    unpaired: gets those that one side only has, with the side.
    """
    if all(side.optimizer is not None and step_hooks(side.optimizer) for side in sides):
        hooked = [{n: p.grad for n, p in side.model.named_parameters() if p.grad is not None} for side in sides]
        _gathered("update", weights, hooked, values, unpaired, "gradient after step hooks of ")
    states = [_states(side) for side in sides]
    for entry in dict.fromkeys([*states[0], *states[1]]):
        _gathered("update", weights, [state.get(entry, {}) for state in states], values, unpaired, f"{entry} of ")
    parameters = [{n: p.detach() for n, p in side.model.named_parameters()} for side in sides]
    _gathered("update", weights, parameters, values, unpaired)


def _states(side: Side) -> dict[str, dict[str, Tensor]]:
    """Entry of the optimizer's state (exp_avg, step, ...) -> parameter name -> tensor."""
    found: dict[str, dict[str, Tensor]] = {}
    assert side.optimizer is not None
    for name, parameter in side.model.named_parameters():
        for entry, value in side.optimizer.state.get(parameter, {}).items():
            if value is not None:
                found.setdefault(entry, {})[name] = torch.as_tensor(value)
    return found


def _gathered(
    stage: str,
    weights: WeightMap,
    tensors: list[dict[str, Tensor]],
    values: dict[str, Drift],
    unpaired: dict[str, int],
    prefix: str = "",
    known: Known = lambda _, __: None,
) -> None:
    """Compare per weight; the reference's tensors are gathered as the weights were."""
    left, right = tensors
    if weights.mirrored:
        right = {
            key: _gather(match.gather, right, list(match.reference))
            for key, match in weights.matches.items()
            if all(name in right for name in match.reference)
        }
    used: set[str] = set()
    for key, match in weights.matches.items():
        there = [name for name in match.reference if name in left]
        used.update(there)
        label = f"{stage}/{prefix}{key}"
        if key in right and len(there) == len(match.reference):
            gathered = _gather(match.gather, left, there)
            values[label] = known(gathered, right[key]) or compare(gathered, right[key])
        elif key in right or there:
            unpaired[label] = int(key in right)
    unpaired.update({f"{stage}/{prefix}{name}": 0 for name in left if name not in used})
    unpaired.update({f"{stage}/{prefix}{key}": 1 for key in right if key not in weights.matches})


def _gather(gather: Callable[[Mapping[str, Tensor]], Tensor], tensors: Mapping[str, Any], names: list[str]) -> Tensor:
    """As the weights are gathered; a scalar (the number of updates) stands for each of its weights alike."""
    if all(tensors[name].dim() == 0 for name in names):
        return tensors[names[0]]
    return gather(tensors)
