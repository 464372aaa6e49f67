"""One run of a subject's own training, as plain values: everything that a cause may switch is a field."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any

GENERATORS = ("python", "numpy", "torch")
SITES = ("initialisation", "order", "window", "dropout")


@dataclass(frozen=True, kw_only=True)
class Run:
    """How one fresh process trains.

    subject: `legacy`, `modern`, or `module:function` of a training of your own. pipeline: `coarse`, `detail`, any name.
    kind: `train` (the trainer's own loop), `compose` (one forward pass of a clip in some company), `accumulate` or
        `distribute` (one update of two clips in `clips` parts), always with the subject's own data path.
    seeds: whether every generator is seeded when the process starts; False leaves the code as it ships.
    unseeded: members of `GENERATORS`, `workers`, or of `SITES`: these alone draw from the machine's entropy.
    threads: inside an operation; 0 keeps the library's choice. workers: loading processes.
    deterministic, precision, onednn, adam (``""``, fused, foreach, single), compiled, channels_last: numeric switches.
    listing: `as found` or `reversed`, the order in which folders list their files.
    company: of `compose`: alone, beside, permuted, repeated. clips: parts of an update.
    stop: the process ends after this many updates, ready to be continued; 0 trains to `steps`. resumed: continue so.
    ulp: number of a draw that moves pixels and weights by -1, 0 or +1 unit in the last place; 0 moves nothing.
    operations: note a fingerprint of every operation of the first step. environment: variables, set before start.
    """

    subject: str
    pipeline: str
    kind: str = "train"
    steps: int = 2
    raster: int = 64
    device: str = "cpu"
    seed: int = 0
    seeds: bool = True
    unseeded: tuple[str, ...] = ()
    threads: int = 1
    workers: int = 0
    deterministic: bool = True
    precision: str = "highest"
    onednn: bool = True
    adam: str = ""
    compiled: bool = False
    channels_last: bool = False
    listing: str = "as found"
    company: str = ""
    clips: int = 1
    stop: int = 0
    resumed: bool = False
    ulp: int = 0
    operations: bool = False
    environment: tuple[tuple[str, str], ...] = ()

    def digest(self, salt: str = "") -> str:
        """A name for the run's results: equal runs of equal sources (`salt`) share it."""
        return hashlib.sha256((salt + json.dumps(asdict(self), sort_keys=True)).encode()).hexdigest()[:24]

    def dump(self) -> dict[str, Any]:
        """As JSON can hold it; the inverse of `load_run`."""
        return asdict(self)


def load_run(document: dict[str, Any]) -> Run:
    """A run from `Run.dump`.

    Raises:
        ValueError: a field that no run has.
    """
    if unknown := set(document) - {item.name for item in fields(Run)}:
        raise ValueError(f"run: unknown fields {', '.join(sorted(unknown))}")
    plain = dict(document)
    plain["unseeded"] = tuple(plain.get("unseeded", ()))
    plain["environment"] = tuple((name, value) for name, value in plain.get("environment", ()))
    return Run(**plain)
