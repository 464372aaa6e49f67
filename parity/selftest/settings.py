"""Harmless ways to run the same code otherwise, by name; each acts on replays and steps inside its block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Thread
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from parity import worker

Inputs = dict[str, Tensor]


def setting(name: str) -> AbstractContextManager[Any]:
    """The block of a setting; "" is no change.

    Raises:
        ValueError: unknown name.
    """
    if not name:
        return nullcontext()
    if name not in SETTINGS:
        raise ValueError(f"unknown setting {name!r}; known: {', '.join(SETTINGS)}")
    return SETTINGS[name]()


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _precision(name: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def _without_onednn() -> Iterator[None]:
    with torch.backends.mkldnn.flags(enabled=False):
        yield


@contextmanager
def _any_algorithm() -> Iterator[None]:
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())


def _fed(change: Callable[[Inputs], Inputs]) -> AbstractContextManager[Any]:
    """Replays get their inputs changed in memory, not in value; what they write must not reach the caller's."""
    replay: Callable[..., dict[str, Tensor]] = worker.replay

    def changed(spec: worker.RunSpec, name: str, stage: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return replay(spec, name, stage, change(dict(inputs)))

    return mock.patch.object(worker, "replay", changed)


def _strided(tensor: Tensor) -> Tensor:
    """Every second element of a buffer twice as long."""
    if not tensor.ndim:
        return tensor
    wide = torch.zeros(*tensor.shape, 2, dtype=tensor.dtype)
    wide[..., 0] = tensor
    return wide[..., 0]


def _unaligned(tensor: Tensor) -> Tensor:
    """The same values one element off the allocator's alignment."""
    buffer = torch.zeros(tensor.numel() + 1, dtype=tensor.dtype)
    buffer[1:] = tensor.flatten()
    return buffer[1:].view(tensor.shape)


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def _each(change: Callable[[Tensor], Tensor]) -> Callable[[Inputs], Inputs]:
    return lambda inputs: {key: change(value) for key, value in inputs.items()}


@contextmanager
def _other_thread() -> Iterator[None]:
    """Replays run in a thread of their own."""
    replay: Callable[..., Any] = worker.replay

    def elsewhere(*arguments: Any) -> Any:
        found: list[Any] = []
        thread = Thread(target=lambda: found.append(replay(*arguments)))
        thread.start()
        thread.join()
        return found[0]

    with mock.patch.object(worker, "replay", elsewhere):
        yield


@contextmanager
def _twice() -> Iterator[None]:
    """Every replay is the second of two: nothing of the first may be left behind."""
    replay: Callable[..., Any] = worker.replay

    def again(*arguments: Any) -> Any:
        replay(*arguments[:-1], {key: value.clone() for key, value in arguments[-1].items()})
        return replay(*arguments)

    with mock.patch.object(worker, "replay", again):
        yield


@contextmanager
def _without_gradients(mode: Callable[[], AbstractContextManager[Any]]) -> Iterator[None]:
    """Stages that need no gradient run in `mode`."""
    replay = worker.replay
    graphs = ("gradients", "cotangent", "adam", "losses")

    def inside(spec: worker.RunSpec, name: str, stage: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        with nullcontext() if stage.endswith(graphs) else mode():
            found = replay(spec, name, stage, inputs)
        return {key: value.clone() for key, value in found.items()}

    with mock.patch.object(worker, "replay", inside):
        yield


SETTINGS: Mapping[str, Callable[[], AbstractContextManager[Any]]] = {
    "2 threads": lambda: _threads(2),
    "4 threads": lambda: _threads(4),
    "oneDNN off": _without_onednn,
    "matmul precision high": lambda: _precision("high"),
    "non-deterministic algorithms allowed": _any_algorithm,
    "inputs in reverse order": lambda: _fed(lambda inputs: dict(reversed(inputs.items()))),
    "inputs copied": lambda: _fed(_each(Tensor.clone)),
    "inputs strided": lambda: _fed(_each(_strided)),
    "inputs unaligned": lambda: _fed(_each(_unaligned)),
    "inputs channels_last": lambda: _fed(_each(_channels_last)),
    "another thread": _other_thread,
    "run twice": _twice,
    "inference mode": lambda: _without_gradients(torch.inference_mode),
}
