"""Any code that computes in float32, run in float64 instead, unchanged.

Three things make a computation float32: tensors that are, a default type, and places that ask for float32 by name
(`.float()`, `dtype=torch.float32`). All three are replaced here; a watch below autograd then notes every operation that
still gave float32, so that a truth which is not one cannot go unseen.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from parity.truth.raster import float64_raster

# Where float32 is moved or made without being computed with.
_HARMLESS = frozenset({"_to_copy", "detach", "alias", "view", "clone", "lift_fresh", "empty", "_unsafe_view"})
_WALKED = (dict, list, tuple)
_AUDITED = frozenset({"parity", "modern", "fixtures", "decalib", "legacy_aucgan_decalib"})


class _AskFor64(TorchFunctionMode):
    """Reads float64 wherever the code says float32."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.float:
            return args[0].double()
        if func in (torch.tensor, torch.as_tensor) and (kwargs or {}).get("dtype") is torch.float32:
            return func(*args, **kwargs).double()  # numbers read from a file: what float32 keeps of them is the input
        wider = tree_map(_wider, (tuple(args), dict(kwargs or {})))
        return func(*wider[0], **wider[1])


def _wider(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value


class Narrow(TorchDispatchMode):
    """Names of the operations that gave float32 values while this was active."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name not in _HARMLESS and any(
            isinstance(x, Tensor) and x.dtype == torch.float32 for x in tree_leaves(output)
        ):
            self.found.add(name)
        return output


@contextmanager
def doubling(face_ids_NHW: Tensor | None = None, *, given: bool = False) -> Iterator[None]:
    """While inside, new tensors, named types and rasters are float64; arguments as of `float64_raster`."""
    before, from_numpy, rebuild = torch.get_default_dtype(), torch.from_numpy, torch._utils._rebuild_tensor

    def from_numpy64(array: Any) -> Tensor:
        return from_numpy(array.astype(np.float64) if array.dtype == np.float32 else array)

    def rebuild_as_stored(*args: Any) -> Any:
        """Unpickling names the type of the bytes it has read, which must stay what it is."""
        with torch._C.DisableTorchFunction():
            return rebuild(*args)

    torch.set_default_dtype(torch.float64)
    try:
        with ExitStack() as stack:
            stack.enter_context(_AskFor64())
            stack.enter_context(mock.patch.object(torch, "from_numpy", from_numpy64))
            stack.enter_context(mock.patch.object(torch._utils, "_rebuild_tensor", rebuild_as_stored))
            stack.enter_context(mock.patch.object(torch, "FloatTensor", torch.DoubleTensor))
            stack.enter_context(float64_raster(face_ids_NHW, given=given))
            yield
    finally:
        torch.set_default_dtype(before)


def upcast(root: Any, leave: Any = None) -> int:
    """Make every float32 tensor that can be reached from `root` float64, in place; returns how many there were.

    What is reached through the object `leave` stays as it is.

    Reached are parameters and buffers of modules, attributes of objects of the audited code, and what dicts, lists and
    tuples hold. Values stay: a float32 number is one in float64 too.
    """
    seen = {id(leave)}
    waiting, count = [root], 0
    while waiting:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, (type, str, bytes, int, float)):
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            count += _upcast_tensor(value)
        elif isinstance(value, _WALKED):
            waiting += value.values() if isinstance(value, dict) else value
        elif isinstance(value, nn.Module) or _ours(value):
            waiting += [*vars(value).values()] if hasattr(value, "__dict__") else []
            waiting += [getattr(value, slot) for slot in getattr(value, "__slots__", ()) if hasattr(value, slot)]
    return count


def _upcast_tensor(tensor: Tensor) -> int:
    if tensor.dtype != torch.float32:
        return 0
    tensor.data = tensor.data.double()
    return 1


def _ours(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] in _AUDITED
