"""Every operation that PyTorch runs inside a block, in call order, with the module and the source line it came from.

Works below autograd, so backward operations are seen too; each of these carries the module and line of the forward
operation whose gradient it computes. Nothing is copied, hooked onto tensors or left behind: a listener that needs a
value must take it while it is called. Backward operations are seen where the backward pass runs in the calling thread,
which is so for CPU tensors; autograd carries the mode along into the threads of a CUDA device.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_OURS = (str(Path(torch.__file__).parent) + os.sep, __file__)  # with the separator: torchvision is not torch
_NO_NODE = 2**64 - 1  # the sequence number of nodes that accumulate into leaves


@dataclass(frozen=True, slots=True)
class Call:
    """One operation.

    index: place in call order. op: for example "aten.addmm.default". view: it only looks at memory otherwise.
    module: path of the innermost module, "" outside of any. source: "file:line" of the innermost frame outside torch.
    backward: whether it computes a gradient; `module` and `source` are then those of the forward operation, if known.
    constants: the arguments that hold no tensor, as (name, value). random: it draws from a generator.
    """

    index: int
    op: str
    view: bool
    module: str
    source: str
    backward: bool
    constants: tuple[tuple[str, Any], ...] = ()
    random: bool = False


class Listener(Protocol):
    """What is told of each operation; tensors must not be changed and are valid during the call only."""

    def before(self, call: Call, inputs: Sequence[Tensor]) -> None:
        """Right before the operation runs (an in-place one has not overwritten its input yet)."""

    def after(self, call: Call, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        """Right after it ran."""


@contextmanager
def listening(listener: Listener, modules: Mapping[str, nn.Module]) -> Iterator[None]:
    """Tell `listener` of every operation inside the block; `modules` (prefix -> root) give the names of modules."""
    names = {
        id(module): ".".join(part for part in (prefix, name) if part)
        for prefix, root in modules.items()
        for name, module in root.named_modules()
    }
    path = [""]

    def enter(module: nn.Module, _: Any) -> None:
        if id(module) in names:  # hooks on all modules see those of other threads too, and of other listeners
            path.append(names[id(module)])

    def leave(module: nn.Module, _: Any, __: Any) -> None:
        if id(module) in names:
            path.pop()

    with ExitStack() as stack:
        stack.callback(register_module_forward_pre_hook(enter).remove)
        stack.callback(register_module_forward_hook(leave, always_call=True).remove)
        stack.enter_context(_Mode(listener, path))
        yield


class _Mode(TorchDispatchMode):
    def __init__(self, listener: Listener, path: list[str]) -> None:
        super().__init__()
        self._listener, self._path = listener, path
        self._index = 0
        self._origins: dict[int, tuple[str, str]] = {}  # sequence number of an autograd node -> module, source
        self._next = torch._C._autograd._get_sequence_nr()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        call = self._call(func, args, kwargs)
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        self._listener.before(call, inputs)
        result = func(*args, **kwargs)
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self._listener.after(call, inputs, outputs)
        return result

    def _call(self, func: Any, args: Any, kwargs: Any) -> Call:
        node = torch._C._current_autograd_node()
        if node is None:
            where = (self._path[-1], _source(sys._getframe(2)))
            following = torch._C._autograd._get_sequence_nr()
            for number in range(self._next, following):  # nodes made for this operation, before it is run
                self._origins[number] = where
            self._next = following
        else:
            number = node._sequence_nr()
            where = self._origins.get(number, ("", "")) if number != _NO_NODE else ("", "")
        self._index += 1
        given = (*zip(_argument_names(func), args, strict=False), *kwargs.items())
        constants = tuple((name, value) for name, value in given if not _holds_tensor(value))
        drawing = torch.Tag.nondeterministic_seeded in func.tags
        return Call(self._index - 1, str(func), func.is_view, *where, node is not None, constants, drawing)


@cache
def _argument_names(func: Any) -> tuple[str, ...]:
    return tuple(argument.name for argument in func._schema.arguments)


def _holds_tensor(value: Any) -> bool:
    return (
        any(isinstance(item, Tensor) for item in value)
        if isinstance(value, (list, tuple))
        else isinstance(value, Tensor)
    )


def _source(frame: FrameType | None) -> str:
    while frame is not None and frame.f_code.co_filename.startswith(_OURS):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else ""
