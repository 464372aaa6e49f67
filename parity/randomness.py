"""Random generators: seed them all, and record what a stretch of code draws from them without disturbing it."""

from __future__ import annotations

import hashlib
import pickle
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


def seed_everything(seed: int) -> None:
    """Seed python, numpy, torch on the CPU and every CUDA device."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def rng_digests() -> dict[str, str]:
    """A digest of the state of each global generator."""
    states = {
        "python": pickle.dumps(random.getstate()),
        "numpy": pickle.dumps(np.random.get_state()),
        "cpu": torch.get_rng_state().numpy().tobytes(),
    }
    if torch.cuda.is_available():
        states["cuda"] = b"".join(state.numpy().tobytes() for state in torch.cuda.get_rng_state_all())
    return {name: hashlib.sha256(state).hexdigest() for name, state in states.items()}


@dataclass
class DrawLog:
    """draws: one entry per random draw, in order; masks: uint8 concatenation of the dropout masks."""

    draws: list[dict[str, Any]] = field(default_factory=list)
    kept: list[Tensor] = field(default_factory=list)

    @property
    def masks(self) -> Tensor | None:
        """All 0/1 dropout masks in draw order, flat; None if nothing was dropped out."""
        return torch.cat(self.kept) if self.kept else None


@contextmanager
def record_draws() -> Iterator[DrawLog]:
    """Log every dropout (shape, probability, mask), and any global generator that moved for another reason.

    A mask is had by rewinding the generator and dropping out ones, which draws exactly what the real call drew, so the
    code under observation sees the same stream as without the log.
    """
    log = DrawLog()
    recorder = _Recorder(log)
    before = rng_digests()
    with recorder:
        yield log
    for name, digest in rng_digests().items():
        expected = recorder.after.get(name, before[name])
        if digest != expected:
            log.draws.append({"op": name, "shape": None, "p": None, "generator": name})


class _Recorder(TorchFunctionMode):
    """Intercepts dropout; `after` holds the generator digests right after the last one."""

    def __init__(self, log: DrawLog) -> None:
        super().__init__()
        self.log = log
        self.after: dict[str, str] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is not F.dropout or not _drops(args, kwargs):
            return func(*args, **kwargs)
        source = args[0] if args else kwargs["input"]
        state = _state(source)
        result = func(*args, **kwargs)
        _restore(source, state)
        p = _argument(args, kwargs, 1, "p", 0.5)
        ones = torch.ones_like(source, requires_grad=False)
        self.log.kept.append((F.dropout(ones, p, True) != 0).to(torch.uint8).flatten().cpu())
        self.log.draws.append(
            {
                "op": "dropout",
                "shape": list(source.shape),
                "p": p,
                "generator": source.device.type.replace("cpu", "torch"),
            }
        )
        self.after = rng_digests()
        return result


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], place: int, name: str, default: Any) -> Any:
    return args[place] if len(args) > place else kwargs.get(name, default)


def _drops(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return bool(_argument(args, kwargs, 2, "training", True)) and _argument(args, kwargs, 1, "p", 0.5) > 0


def _state(source: Tensor) -> Tensor:
    return torch.cuda.get_rng_state(source.device) if source.is_cuda else torch.get_rng_state()


def _restore(source: Tensor, state: Tensor) -> None:
    if source.is_cuda:
        torch.cuda.set_rng_state(state, source.device)
    else:
        torch.set_rng_state(state)
