"""One model with what it is run on, and one step of it: forward, backward, update."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import keystr, tree_flatten_with_path, tree_map

from parity.ops import Listener, listening
from parity.pair.names import tensors_of
from parity.perturb import perturbed

Loss = Callable[[Any, Any], Tensor]
Watching = Callable[[nn.Module], AbstractContextManager[None]]


@dataclass
class Side:
    """A model, its inputs (a tensor, or a tuple or dict that is spread over the arguments), loss and optimizer.

    loss: of (outputs, inputs), a scalar; None: forward only. remake: builds the optimizer of a copied model; without it
    a copy of the optimizer is made, which has no step hooks: what they refer to is not known.
    """

    model: nn.Module
    inputs: Any
    loss: Loss | None = None
    optimizer: torch.optim.Optimizer | None = None
    remake: Callable[[nn.Module], torch.optim.Optimizer] | None = None

    def copied(self) -> Side:
        """A side of its own with equal tensors; the optimizer's copy holds the copied parameters."""
        if self.remake is None:
            model, optimizer = copy.deepcopy((self.model, self.optimizer))
        else:
            model = copy.deepcopy(self.model)
            optimizer = self.remake(model)
        return Side(model, self.copied_inputs(), self.loss, optimizer, self.remake)

    @property
    def hooks_lost(self) -> bool:
        """Whether a copy's optimizer would step without the hooks that this one has."""
        return self.remake is None and self.optimizer is not None and bool(step_hooks(self.optimizer))

    def moved(self, draw: int) -> Side:
        """A copy whose weights and inputs are moved by -1, 0 or +1 unit in the last place."""
        side = self.copied()
        given, rebuild = _leaves(side.inputs)
        noisy = perturbed({**{f"i{k}": v for k, v in given.items()}, **tensors_of(side.model)}, draw)
        with torch.no_grad():
            for name, tensor in tensors_of(side.model).items():
                tensor.copy_(noisy[name])
        side.inputs = rebuild({name: noisy[f"i{name}"] for name in given})
        return side

    def forward(self) -> Any:
        """The model's outputs on a copy of the inputs."""
        return self.outputs_of(self.copied_inputs())

    def copied_inputs(self) -> Any:
        """The inputs with tensors of their own."""
        return tree_map(lambda leaf: _copied(leaf) if isinstance(leaf, Tensor) else leaf, self.inputs)

    def outputs_of(self, inputs: Any) -> Any:
        """The model called with `inputs`."""
        if isinstance(inputs, Mapping):
            return self.model(**inputs)
        return self.model(*inputs) if isinstance(inputs, (tuple, list)) else self.model(inputs)

    def step(self, listener: Listener, watching: Watching = lambda _: nullcontext()) -> tuple[dict[str, Tensor], Any]:
        """Forward and backward under `listener`; returns the output tensors by name, and the loss.

        The inputs are the side's own: whether the model changes them can be seen afterwards.
        """
        self.model.zero_grad(set_to_none=True)
        with listening(listener, {"": self.model}), watching(self.model):
            outputs = self.outputs_of(self.inputs)
            value = None if self.loss is None else self.loss(outputs, self.inputs)
            if value is not None:
                _check_scalar(value)
                value.backward()
        return named_tensors(outputs), None if value is None else value.detach()


def _check_scalar(value: Any) -> None:
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
        kind = type(value).__name__
        if isinstance(value, Tensor):
            kind = f"a tensor of shape {list(value.shape)}" + ("" if value.requires_grad else " without gradient")
        raise ValueError(
            f"loss(outputs, inputs) returned {kind}; it must return one number that depends on the weights"
        )


def step_hooks(optimizer: torch.optim.Optimizer) -> int:
    """How many hooks run before and after each of the optimizer's steps."""
    kinds = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
    return sum(len(getattr(optimizer, kind, ())) for kind in kinds)


def _copied(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)


def named_tensors(tree: Any) -> dict[str, Tensor]:
    """Tensors inside tuples, lists, dicts and named tuples: by their place, "out" for a single one."""
    leaves, _ = tree_flatten_with_path(tree)
    return {keystr(path) or "out": leaf.detach() for path, leaf in leaves if isinstance(leaf, Tensor)}


@contextmanager
def state_kept(model: nn.Module) -> Iterator[None]:
    """What a forward pass does to buffers and gradients inside the block is undone."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    try:
        yield
    finally:
        put_back(model, buffers)
        for name, parameter in model.named_parameters():
            parameter.grad = gradients[name]


def put_back(model: nn.Module, buffers: Mapping[str, Tensor]) -> None:
    """Give the buffers of `model` the values of `buffers` again."""
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])


def _leaves(tree: Any) -> tuple[dict[str, Tensor], Callable[[dict[str, Tensor]], Any]]:
    leaves, spec = tree_flatten_with_path(tree)
    tensors = {keystr(path): leaf for path, leaf in leaves if isinstance(leaf, Tensor)}

    def rebuild(moved: dict[str, Tensor]) -> Any:
        return torch.utils._pytree.tree_unflatten([moved.get(keystr(path), leaf) for path, leaf in leaves], spec)

    return tensors, rebuild
