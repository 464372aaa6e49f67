"""The process's numeric switches: threads, deterministic kernels, precision; set together and put back together."""

from __future__ import annotations

import os
from typing import Any

import torch

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
_CUDNN = ("benchmark", "deterministic", "allow_tf32")


def set_numerics(threads: int, *, deterministic: bool = True, warn_only: bool = False) -> None:
    """Fix what may choose another kernel, precision or partition of a sum.

    Args:
        threads: threads inside an operation. With 2 or more, vertex gradients race on the CPU unless `deterministic`.
        deterministic: use deterministic algorithms only; an operation that has none raises.
        warn_only: it warns instead.
    """
    os.environ[CUBLAS] = ":4096:8"  # read when cuBLAS makes its first handle
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")


def numeric_state() -> dict[str, Any]:
    """All that `set_numerics` may change."""
    return {
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "cudnn": {name: getattr(torch.backends.cudnn, name) for name in _CUDNN},
        "matmul": torch.get_float32_matmul_precision(),
        "cublas": os.environ.get(CUBLAS),
    }


def restore_numerics(state: dict[str, Any]) -> None:
    """Put back what `numeric_state` took."""
    torch.set_num_threads(state["threads"])
    torch.use_deterministic_algorithms(state["deterministic"], warn_only=state["warn_only"])
    for name, value in state["cudnn"].items():
        setattr(torch.backends.cudnn, name, value)
    torch.set_float32_matmul_precision(state["matmul"])
    if state["cublas"] is None:
        os.environ.pop(CUBLAS, None)
    else:
        os.environ[CUBLAS] = state["cublas"]
