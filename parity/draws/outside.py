"""Draws from the global generators of python and numpy, seen by wrapping the functions of their modules."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch

# name, generator, function, arguments, keyword arguments -> what the function returned
Handle = Callable[[str, str, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
_PLAIN = {"seed", "sample", "ranf"}  # numpy's are plain functions around the hidden generator
_STATES = {"getstate", "setstate", "get_state", "set_state", "get_bit_generator", "set_bit_generator"}


@contextmanager
def watched(handle: Handle) -> Iterator[None]:
    """While inside, `handle` makes each call that draws from or seeds a global generator of python or numpy.

    Functions imported by name before are not seen; their draws show as moves of the generator. Own objects
    (`random.Random`, `numpy.random.Generator`) are not followed.
    """
    owners: tuple[tuple[Any, Any, str], ...] = (
        (random, random._inst, "python"),
        (np.random, np.random.mtrand._rand, "numpy"),
    )
    with ExitStack() as stack:
        for module, hidden, generator in owners:
            for name in dir(module):
                function = getattr(module, name)
                bound = getattr(function, "__self__", None) is hidden or name in _PLAIN
                if bound and name not in _STATES:
                    call = _wrapped(handle, f"{module.__name__}.{name}", generator, function)
                    stack.enter_context(mock.patch.object(module, name, call))
        seed = _wrapped(handle, "torch.manual_seed", "cpu", torch.manual_seed)
        stack.enter_context(mock.patch.object(torch, "manual_seed", seed))
        yield


def _wrapped(handle: Handle, name: str, generator: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        return handle(name, generator, function, args, kwargs)

    return call


def values_of(name: str, result: Any, args: tuple[Any, ...]) -> int:
    """How many values a call of python's or numpy's functions drew, as far as its result tells."""
    if name.endswith("seed"):
        return 0
    if result is None:  # shuffle works in place
        return len(args[0]) if args else 0
    return int(np.size(result)) if not isinstance(result, (bytes, str)) else len(result)
