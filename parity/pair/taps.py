"""Outputs of named modules, and the gradients that reach them, compared whatever operations lie between."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves

from parity.comparison import Drift, compare
from parity.pair.side import named_tensors

Stages = Mapping[str, tuple[str, str]]  # stage -> module of the reference, module of the candidate


class Taps:
    """Compares a value when its second side arrives; the first one's is kept as a copy until then.

    drifts: "stage/tensor" -> drift; a module's second call has "#2" after its tensors.
    """

    def __init__(self, stages: Stages) -> None:
        self._stages = stages
        self._waiting: dict[str, tuple[int, Tensor]] = {}
        self.drifts: dict[str, Drift] = {}
        self._called: dict[str, set[int]] = {stage: set() for stage in stages}

    @property
    def unpaired(self) -> dict[str, int]:
        """Tensors of reached stages that only one side yielded, and which side that was (0: reference)."""
        skipped = self.not_reached
        return {key: side for key, (side, _) in self._waiting.items() if key.partition("/")[0] not in skipped}

    @property
    def not_reached(self) -> dict[str, list[int]]:
        """Stages whose module a side never calls (it may use the module's weights otherwise), with these sides."""
        return {stage: sorted({0, 1} - called) for stage, called in self._called.items() if len(called) < 2}

    @contextmanager
    def on(self, side: int, model: nn.Module) -> Iterator[None]:
        """Read the stages' modules of `model` inside the block."""
        with ExitStack() as stack:
            for stage, modules in self._stages.items():
                hook = partial(self._read, side, stage, [0])
                stack.callback(model.get_submodule(modules[side]).register_forward_hook(hook).remove)
            yield

    def _read(self, side: int, stage: str, calls: list[int], module: nn.Module, _: Any, outputs: Any) -> None:
        calls[0] += 1
        self._called[stage].add(side)
        again = f"#{calls[0]}" if calls[0] > 1 else ""
        for name, tensor in named_tensors(outputs).items():
            self._value(side, f"{stage}/{name}{again}", tensor)
        tracked = [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]
        for name, tensor in zip(named_tensors(outputs), tracked, strict=True):
            if tensor.requires_grad:
                tensor.register_hook(partial(self._value, side, f"{stage}/gradient of {name}{again}"))

    def _value(self, side: int, key: str, tensor: Tensor) -> None:
        with _disable_current_modes():
            if key in self._waiting and self._waiting[key][0] != side:
                _, other = self._waiting.pop(key)
                pair = (other, tensor) if side else (tensor, other)
                self.drifts[key] = compare(pair[0].detach(), pair[1].detach())
            else:
                self._waiting[key] = (side, tensor.detach().clone())
