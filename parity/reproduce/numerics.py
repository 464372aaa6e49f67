"""The numeric switches of a run, set in its process before anything is built."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from parity.environment import fix_numerics
from parity.perturb import one_ulp
from parity.reproduce.evidence import NOTEBOOK, adam_in_use, probes, races
from parity.reproduce.run import Run

_ADAM = {"fused": {"fused": True, "foreach": False}, "foreach": {"foreach": True}, "single": {"foreach": False}}


def apply(run: Run) -> None:
    """Set threads, determinism, precision and oneDNN of this process."""
    fix_numerics(threads=run.threads or torch.get_num_threads(), deterministic=run.deterministic)
    torch.set_float32_matmul_precision(run.precision)
    torch.backends.mkldnn.set_flags(_enabled=run.onednn)
    NOTEBOOK.facts |= {
        "run": run.dump(),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "hash": hash("reproduce"),
        "probes": probes(),
        "workers": {},
        "adam": "",
    }
    if not run.deterministic:
        NOTEBOOK.facts["races"] = races()


def prepare(
    run: Run, optimizers: Sequence[Optimizer], trained: Iterable[nn.Module], networks: Sequence[nn.Module]
) -> None:
    """Apply to a built subject what the run switches: Adam's implementation, layout, compilation, one-ULP noise.

    Args:
        run: the switches.
        optimizers: all of them.
        trained: the modules that are compiled.
        networks: everything, laid out and moved; convolutions choose other kernels when channels are last in memory.

    Raises:
        ValueError: an implementation that Adam does not have.
    """
    if run.adam and run.adam not in _ADAM:
        raise ValueError(f"adam {run.adam!r}: known are {', '.join(_ADAM)}")
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group.update(_ADAM.get(run.adam, {}))
    NOTEBOOK.facts["adam"] = adam_in_use(optimizers)
    for network in networks if run.channels_last else ():
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        NOTEBOOK.facts["layout"] = NOTEBOOK.facts.get("layout", 0) + sum(
            not parameter.is_contiguous() for parameter in network.parameters()
        )
    for module in trained if run.compiled else ():
        module.compile()
    parameters = [parameter for network in networks for parameter in network.parameters()] if run.ulp else []
    with torch.no_grad():
        for index, parameter in enumerate(parameters):
            parameter.copy_(one_ulp(parameter, torch.Generator().manual_seed(10_000 * run.ulp + index)))


def moved_pixels(run: Run, image: Tensor) -> Tensor:
    """The picture, moved by one unit in the last place if the run says so, within 0..1."""
    return one_ulp(image, torch.Generator().manual_seed(run.ulp)).clamp(0, 1) if run.ulp else image


@contextmanager
def listing(run: Run) -> Iterator[None]:
    """While inside, folders list their files in the run's order; no file system promises any."""
    if run.listing == "as found":
        yield
        return
    listdir, scandir = os.listdir, os.scandir

    def turned(found: list[Any]) -> list[Any]:
        NOTEBOOK.facts["listings"] = NOTEBOOK.facts.get("listings", 0) + (len(found) > 1)
        return found[::-1]

    def backwards(*args: Any) -> Any:
        with scandir(*args) as entries:
            return _Entries(turned(list(entries)))

    with (
        mock.patch.object(os, "listdir", lambda *args: turned(listdir(*args))),
        mock.patch.object(os, "scandir", backwards),
    ):
        yield


class _Entries(list[Any]):
    """A list that can be used like what `os.scandir` returns."""

    def __enter__(self) -> _Entries:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def close(self) -> None:
        return None
