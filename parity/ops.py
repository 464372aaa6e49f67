"""Every operation that PyTorch runs inside a block, in call order, with the module and the source line it came from.

Works below autograd, so backward operations are seen too; each of these carries the module and line of the forward
operation whose gradient it computes. Nothing is copied, hooked onto tensors or left behind: a listener that needs a
value must take it while it is called. Backward operations are seen where the backward pass runs in the calling thread,
which is so for CPU tensors; autograd carries the mode along into the threads of a CUDA device.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from parity.compiled import told_as_one

_OURS = (str(Path(torch.__file__).parent) + os.sep, __file__)  # with the separator: torchvision is not torch
_NO_NODE = 2**64 - 1  # the sequence number of nodes that accumulate into leaves


@dataclass(frozen=True, slots=True)
class Call:
    """One operation.

    index: place in call order. op: for example "aten.addmm.default". view: it only looks at memory otherwise.
    module: path of the innermost module, "" outside of any. source: "file:line" of the innermost frame outside torch.
    backward: whether it computes a gradient; the places are then those of the forward operation, if known, unless the
    Python code of a custom gradient runs it. caller: "file:line" of the innermost frame outside installed packages and
    the standard library; function: the function there. scalars: arguments that are no tensors, by name, as text.
    random: it draws from a generator.
    """

    index: int
    op: str
    view: bool
    module: str
    source: str
    backward: bool
    caller: str = ""
    function: str = ""
    scalars: tuple[tuple[str, str], ...] = ()
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
        stack.enter_context(told_as_one())
        stack.enter_context(_Mode(listener, path))
        yield


class _Mode(TorchDispatchMode):
    def __init__(self, listener: Listener, path: list[str]) -> None:
        super().__init__()
        self._listener, self._path = listener, path
        self._index = 0
        self._origins: dict[int, _Origin] = {}  # by the sequence number of an autograd node
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

    def _call(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
        node = torch._C._current_autograd_node()
        found = places(sys._getframe(2), backward=node is not None)
        if node is None:
            where = _Origin(self._path[-1], *(found or ("", "", "")))
            following = torch._C._autograd._get_sequence_nr()
            for number in range(self._next, following):  # nodes made for this operation, before it is run
                self._origins[number] = where
            self._next = following
        else:
            number = node._sequence_nr()
            where = self._origins.get(number, _NOWHERE) if number != _NO_NODE else _NOWHERE
            where = where._replace(source=found[0], caller=found[1], function=found[2]) if found else where
        self._index += 1
        return Call(
            index=self._index - 1,
            op=str(func),
            view=func.is_view,
            module=where.module,
            source=where.source,
            backward=node is not None,
            caller=where.caller,
            function=where.function,
            scalars=_scalars(func, args, kwargs),
            random=torch.Tag.nondeterministic_seeded in func.tags,
        )


class _Origin(NamedTuple):
    module: str
    source: str
    caller: str
    function: str


_NOWHERE = _Origin("", "", "", "")
_ENGINE = "_engine_run_backward"  # the frame from which autograd runs; what lies above it asked for the gradients
_INSTALLED = ("site-packages", "dist-packages", sysconfig.get_path("stdlib"))
_UNTOLD = frozenset({"dtype", "layout", "device", "pin_memory", "memory_format", "non_blocking"})


def places(frame: FrameType | None, *, backward: bool = False) -> tuple[str, str, str] | None:
    """Innermost place outside torch, innermost place outside installed packages, and the function there.

    None for a gradient that no Python code computes.
    """
    source = ""
    while frame is not None and not (backward and frame.f_code.co_name == _ENGINE):
        code = frame.f_code
        if not code.co_filename.startswith(_OURS):
            place = f"{code.co_filename}:{frame.f_lineno}"
            source = source or place
            if not any(part in code.co_filename for part in _INSTALLED):
                return source, place, code.co_qualname
        frame = frame.f_back
    return (source, source, "") if source else None


def _scalars(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    names = [argument.name for argument in func._schema.arguments]
    given = [*zip(names, args, strict=False), *kwargs.items()]
    return tuple(
        (name, repr(value))
        for name, value in given
        if name not in _UNTOLD and not any(isinstance(leaf, Tensor) for leaf in tree_leaves(value))
    )
