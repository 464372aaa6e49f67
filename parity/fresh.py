"""A task in a process of its own: some switches are read once, when a process starts, and memory goes back with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from multiprocessing import get_context
from typing import Any
from unittest import mock


def in_fresh_process(task: Callable[..., Any], *arguments: Any, variables: Mapping[str, str] | None = None) -> Any:
    """`task(*arguments)` in a new process that has `variables` in its environment from the start."""
    # without variables nothing is touched, so that threads may start processes side by side
    changed = mock.patch.dict(os.environ, variables) if variables else nullcontext()
    with changed, ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(task, *arguments).result()
