"""What becomes of drawn numbers: which tensors hold something that depends on which draw.

A draw is a bit; each storage carries the bits of all draws its content depends on. A number that leaves the world of
tensors (`item`, `tolist`) is followed one step further: what the module that read it returns depends on it too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._pytree import tree_leaves


@dataclass
class _Call:
    """A module being called: what it was given, and the draws that it has read as numbers."""

    name: str
    inputs: set[StorageWeakRef]
    numbers: int = 0


class Flow:
    """Bits by draw.

    read: used by any later operation. reached: found in a result. escaped: read as a number outside every module, hence
    lost from sight. unchanged: read by a module that then returned its input as it was.
    """

    def __init__(self) -> None:
        self.read = self.reached = self.escaped = self.unchanged = 0
        self._bits: dict[StorageWeakRef, int] = {}
        self._calls: list[_Call] = []

    @property
    def module(self) -> str:
        """Classes of the modules being called, outermost first."""
        return ".".join(call.name for call in self._calls)

    def drawn(self, bit: int, tensors: Iterable[Tensor]) -> None:
        """`tensors` were filled by a draw."""
        for tensor in tensors:
            self._add(tensor, bit)

    def operation(self, function: Callable[..., Any], inputs: Any, output: Any) -> None:
        """An operation has run: its output, and what it wrote to, depend on all that it read."""
        if not self._bits:
            return
        bits = self.bits(inputs)
        if not bits:
            return
        schema = function._schema  # type: ignore[attr-defined]
        if not any(place.alias_info is not None and not place.alias_info.is_write for place in schema.returns):
            self.read |= bits  # a view has read nothing yet
        found = list(tensors(output))
        for tensor in found:
            self._add(tensor, bits)
        if not found and schema.returns:
            self.number(bits)
        if any(argument.alias_info is not None and argument.alias_info.is_write for argument in schema.arguments):
            for argument, value in zip(schema.arguments, inputs[0], strict=False):
                if argument.alias_info is not None and argument.alias_info.is_write:
                    for tensor in tensors(value):
                        self._add(tensor, bits)

    def number(self, bits: int) -> None:
        """A value has become a number of python or numpy."""
        self.read |= bits
        if self._calls:
            self._calls[-1].numbers |= bits
        else:
            self.escaped |= bits

    def enter(self, module: nn.Module, inputs: Any) -> None:
        """A module is called."""
        self._calls.append(_Call(type(module).__name__, {_key(tensor) for tensor in tensors(inputs)}))

    def leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """A module has returned, or has raised."""
        call = self._calls.pop()
        if not call.numbers:
            return
        fresh = [tensor for tensor in tensors(output) if _key(tensor) not in call.inputs]
        for tensor in fresh:
            self._add(tensor, call.numbers)
        if not fresh and any(True for _ in tensors(output)):
            self.unchanged |= call.numbers
        elif not fresh:
            self.number(call.numbers)

    def reaches(self, results: Any) -> None:
        """`results` are what the code was run for."""
        self.reached |= self.bits(results)

    def bits(self, values: Any) -> int:
        """The draws that any tensor in `values` depends on."""
        bits = 0
        for tensor in tensors(values):
            bits |= self._bits.get(_key(tensor), 0)
        return bits

    def _add(self, tensor: Tensor, bits: int) -> None:
        key = _key(tensor)
        self._bits[key] = self._bits.get(key, 0) | bits


def tensors(values: Any) -> Iterator[Tensor]:
    """Every tensor with a storage inside nested values."""
    return (leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor) and not leaf.is_sparse)


def _key(tensor: Tensor) -> StorageWeakRef:
    """Equal for tensors that share memory; while it lives, no other storage can take its place."""
    return StorageWeakRef(tensor.untyped_storage())
