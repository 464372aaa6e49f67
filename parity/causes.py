"""Harmless changes of a process: other threads, instruction sets and kernels, each in a fresh process.

Nobody would call one of them a bug. Noise floors cover those of `COVERED`; those of `HELD_OUT` have no part in any
floor, so that `python -m parity calibrate` can tell how often a floor cries wolf at what it never saw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from parity.fresh import in_fresh_process


@dataclass(frozen=True, kw_only=True)
class Cause:
    """A harmless change: threads inside an operation, variables of the process, oneDNN on or off."""

    name: str
    threads: int = 1
    onednn: bool = True
    variables: tuple[tuple[str, str], ...] = ()


COVERED = (
    Cause(name="2 threads", threads=2),
    Cause(name="MKL compatible", variables=(("MKL_CBWR", "COMPATIBLE"),)),
    Cause(name="oneDNN AVX2", variables=(("ONEDNN_MAX_CPU_ISA", "AVX2"),)),
    Cause(name="oneDNN SSE4.1", variables=(("ONEDNN_MAX_CPU_ISA", "SSE41"),)),
    Cause(name="ATen default", variables=(("ATEN_CPU_CAPABILITY", "default"),)),
)
HELD_OUT = (
    Cause(name="nothing"),
    Cause(name="3 threads", threads=3),
    Cause(name="oneDNN off", onednn=False),
    Cause(name="oneDNN AVX", variables=(("ONEDNN_MAX_CPU_ISA", "AVX"),)),
    Cause(name="MKL AVX2", variables=(("MKL_CBWR", "AVX2"),)),
    Cause(name="ATen AVX2", variables=(("ATEN_CPU_CAPABILITY", "avx2"),)),
)


def covered(device: str) -> tuple[Cause, ...]:
    """What floors measured on `device` cover: these change kernels of the CPU, so none elsewhere."""
    return COVERED if device.startswith("cpu") else ()


def under(cause: Cause, task: Callable[..., Any], *arguments: Any) -> Any:
    """`task(*arguments)` in a new process that the cause acts on; the task itself must ask for `cause.threads`."""
    variables = {"OMP_NUM_THREADS": str(cause.threads), "MKL_NUM_THREADS": str(cause.threads), **dict(cause.variables)}
    return in_fresh_process(_switched, cause.onednn, task, arguments, variables=variables)


def _switched(onednn: bool, task: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    torch.backends.mkldnn.set_flags(_enabled=onednn)
    return task(*arguments)
