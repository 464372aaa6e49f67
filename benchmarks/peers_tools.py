"""The two-ResNet-50 workload, and what each tool makes of it: a whole audit, that is, capture both and compare."""

from __future__ import annotations

import atexit
import contextlib
import copy
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

CHANGED = "layer3.2.conv2"


class Workload:
    """Two ResNet-50 in training mode, 4 images, one weight of `CHANGED` moved by 1e-3."""

    def __init__(self) -> None:
        import torchvision

        torch.manual_seed(0)
        self.reference: nn.Module = torchvision.models.resnet50().train()
        self.candidate = copy.deepcopy(self.reference)
        with torch.no_grad():
            self.candidate.get_submodule(CHANGED).weight[0, 0, 0, 0] += 1e-3  # type: ignore[operator, index]
        self.images = torch.randn(4, 3, 224, 224)

    def clear(self) -> None:
        """Forget gradients."""
        for model in (self.reference, self.candidate):
            model.zero_grad(set_to_none=True)

    def plain(self, backward: bool) -> None:
        """What an audit has to be held against: both models run, one after the other."""
        for model in (self.reference, self.candidate):
            with contextlib.nullcontext() if backward else torch.no_grad():
                loss = model(self.images).sum()
            if backward:
                loss.backward()


@dataclass(frozen=True)
class Tool:
    """audit: returns what the tool blames first. backward: whether gradients were captured and compared as well."""

    name: str
    figures: str
    backward: bool
    audit: Callable[[Workload], str]


def ours(work: Workload) -> str:
    """`parity.pair.audit_pair`: every operation's every output, in step."""
    from parity.pair import audit_pair

    first = audit_pair(work.reference, work.candidate, work.images, loss=lambda out, _: out.sum()).first
    return f"{first.candidate.op} at {first.candidate.module}: {first.cause}, {first.detail}" if first else "nothing"


def debug_mode(work: Workload) -> str:
    """DebugMode of torch: a norm of every output and input, forward and backward."""
    from torch.utils._debug_mode import DebugMode

    logs = []
    for model in (work.reference, work.candidate):
        with (
            DebugMode(record_nn_module=True) as mode,
            DebugMode.log_tensor_hashes(hash_fn="norm", hash_inputs=True),
        ):
            model(work.images).sum().backward()
        logs.append(mode.logs)
    found = DebugMode.check_hash_mismatches(*logs)
    return f"{found[0]['call']} (no module)" if found else "nothing"


def torchlens(work: Workload) -> str:
    """TorchLens: trace of both forwards, structural diff report."""
    import torchlens as tl
    from torchlens.differential import diff_report

    traces = [tl.trace(model, work.images) for model in (work.candidate, work.reference)]
    report = diff_report(*traces)
    rows = sorted(report.rows_with_status("changed"), key=lambda row: _order(row.subject_label or ""))
    return f"{rows[0].site_key} ({rows[0].subject_label})" if rows else "nothing"


def _order(label: str) -> int:
    """Call order from a label such as conv2d_33_106:1; the report sorts its rows by name."""
    *_, kind, number = ("", *label.split(":")[0].split("_"))
    return int(number) if kind.isdigit() and number.isdigit() else sys.maxsize


def msprobe(work: Workload) -> str:
    """Msprobe L0, statistics: max, min, mean and norm of every module, forward and backward, dumped and compared."""
    folder, debugger = _debugger()
    for model in (work.reference, work.candidate):
        debugger.start(model)
        model(work.images).sum().backward()
        debugger.stop()
        debugger.step()
    try:
        return _compared(folder)
    finally:
        for dumped in folder.glob("step*"):
            shutil.rmtree(dumped)


@cache
def _debugger() -> tuple[Path, Any]:
    """Where msprobe dumps, and its debugger: a process has one, which counts its steps through all repeats."""
    from msprobe.pytorch import PrecisionDebugger

    folder = Path(tempfile.mkdtemp(prefix="msprobe-"))
    atexit.register(shutil.rmtree, folder)
    config = folder / "config.json"
    statistics = {"scope": [], "list": [], "data_mode": ["all"], "summary_mode": "statistics"}
    settings = {"task": "statistics", "dump_path": str(folder), "rank": [], "step": [], "level": "L0"}
    config.write_text(json.dumps({**settings, "statistics": statistics}))
    return folder, PrecisionDebugger(config_path=str(config))


def _compared(folder: Path) -> str:
    """The first module that msprobe calls different, of the two steps dumped into `folder`."""
    steps = sorted(folder.glob("step*"), key=lambda path: int(path.name.removeprefix("step")))
    dumps = [next(step.rglob("dump.json")) for step in steps]
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    command = [
        Path(sys.executable).parent / "msprobe",
        "compare",
        "-gp",
        dumps[0],
        "-tp",
        dumps[1],
        "-o",
        out,
    ]
    out.mkdir()
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr or done.stdout)[-300:])
    return _first_in_table(next(out.glob("compare_result*.csv")))


def _first_in_table(path: Path) -> str:
    import pandas as pd

    table = pd.read_csv(path)
    columns = [name for name in table if "diff" in str(name).lower() and "relative" not in str(name).lower()]
    figures = table[columns].apply(pd.to_numeric, errors="coerce").abs()
    rows = table[(figures > 0).any(axis=1)]
    return str(rows.iloc[0, 0]) if len(rows) else "nothing"


def pytest_torch(work: Workload) -> str:
    """pytest-torch: outputs and inputs of every module of the forward, in float64, at tolerance 0."""
    from pytest_torch import localize_divergence

    found = localize_divergence(work.reference, work.candidate, work.images, rtol=0.0, atol=0.0)
    return f"{found.first.name} ({found.first.module_type})" if found.first else "nothing"


TOOLS = {
    tool.name: tool
    for tool in (
        Tool("parity pair", "all figures of every operation's outputs, weights, gradients", True, ours),
        Tool("torch DebugMode", "one norm per tensor of every operation", True, debug_mode),
        Tool("msprobe L0 statistics", "max, min, mean, norm of every module", True, msprobe),
        Tool("TorchLens", "largest difference per operation, forward only", False, torchlens),
        Tool("pytest-torch", "differences of every module, forward only", False, pytest_torch),
    )
}
