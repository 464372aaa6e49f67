"""What a run shows while it trains: every tensor's digest, and its drift from a reference run's, taken at once.

Tensors are named `stage/name@step` in the order in which they come. A reference is a folder that an earlier run kept.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from parity.comparison import compare
from parity.files import write_atomically
from parity.fingerprint import fingerprint
from parity.trace import snapshot

TENSORS, RESULT = "tensors.safetensors", "result.json"


@dataclass
class Watch:
    """Collects what a run shows.

    reference: folder of a run that kept its tensors; each tensor is compared with its namesake there.
    keep: keep all tensors for later runs to be compared with. looking: true while tensors are looked at.
    first: number of the first update of which something was shown.
    """

    reference: Path | None = None
    keep: bool = False
    digests: dict[str, str] = field(default_factory=dict)
    drifts: dict[str, dict[str, Any]] = field(default_factory=dict)
    scalars: dict[str, float] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    kept: dict[str, Tensor] = field(default_factory=dict)
    looking: bool = False
    first: int | None = None
    _spent: float = 0.0
    _mark: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self._file = safe_open(self.reference / TENSORS, framework="pt") if self.reference else None
        known = json.loads((self.reference / RESULT).read_text()) if self.reference else {"digests": {}}
        self._known: dict[str, str] = known["digests"]

    def put(self, stage: str, tensors: Mapping[str, Tensor], step: int = 0) -> None:
        """Look at the tensors of a stage; the time this takes is not the run's."""
        start, self.looking = time.perf_counter(), True
        self.first = step if self.first is None else min(self.first, step)
        for name, tensor in tensors.items():
            self._look(f"{stage}/{name}@{step}", snapshot(tensor).cpu())
        self.looking = False
        self.spent(time.perf_counter() - start)

    def _look(self, key: str, value: Tensor) -> None:
        self.digests[key] = digest = fingerprint(value)
        if value.numel() == 1:
            self.scalars[key] = float(value)
        if self._file and key in self._known:
            same = digest == self._known[key]
            self.drifts[key] = _equal(value) if same else _figures(self._file.get_tensor(key), value)
        if self.keep:
            self.kept[key] = value

    def spent(self, seconds: float) -> None:
        """So much time went into looking, not into training."""
        self._spent += seconds

    def begin_steps(self) -> None:
        """Time and updates count from here; what was shown before belongs to none."""
        self._mark, self._spent, self.first = time.perf_counter(), 0.0, None

    def steps(self) -> dict[str, int | None]:
        """How many updates were made, and the number of the first one that was shown."""
        return {"made": len(self.seconds), "first": self.first}

    def step_done(self) -> None:
        """One update has been made."""
        now = time.perf_counter()
        self.seconds.append(now - self._mark - self._spent)
        self._mark, self._spent = now, 0.0

    def write(self, folder: Path) -> None:
        """Leave the result in `folder`; `RESULT` is written last and whole."""
        folder.mkdir(parents=True, exist_ok=True)
        if self.keep:
            save_file(self.kept, folder / TENSORS)
        names = ("digests", "drifts", "scalars", "seconds", "notes")
        document = {name: getattr(self, name) for name in names}
        write_atomically(folder / RESULT, json.dumps(document).encode())


def _equal(value: Tensor) -> dict[str, Any]:
    """What `_figures` says of equal bytes, without reading the reference."""
    zero = {"structural": "", "bitwise": True, "count": value.numel(), "differing": 0, "max_abs": 0.0, "rel_l2": 0.0}
    return zero | {"dtype": str(value.dtype).removeprefix("torch."), "norm": _norm(value)}


def _norm(value: Tensor) -> float | None:
    return float(torch.linalg.vector_norm(value, dtype=torch.float64)) if value.is_floating_point() else None


def _figures(reference: Tensor, value: Tensor) -> dict[str, Any]:
    drift = asdict(compare(reference, value))
    names = ("dtype", "structural", "bitwise", "count", "differing", "max_abs", "rel_l2", "scaled_ulp")
    return {name: drift[name] for name in names} | {"norm": _norm(reference)}
