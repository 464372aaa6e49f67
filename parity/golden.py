"""Goldens: recordings of legacy kept under `fixtures/golden/<platform>/`, and why one may not be usable."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from parity.batch import Batch
from parity.environment import platform_key
from parity.files import ROOT
from parity.legacy_manifest import check_manifest
from parity.recording import (
    Recording,
    RecordingError,
    RecordingMissing,
    read_manifest,
    read_recording,
    write_recording,
)
from parity.subject import DetailSetup, Plan, Setup
from parity.summary import LIMIT
from parity.trace import Trace

GOLDENS = ROOT / "fixtures" / "golden"
LEGACY_MANIFEST = ROOT / "legacy" / "MANIFEST.sha256"
MEND = "pytest parity/ --regen"
MAX_BYTES = 4_000_000
# Parameter-wise tensors are many and later steps repeat every stage: a coarser sample keeps a golden small.
_COARSE_LIMIT = 256
# Pixels of a photograph: too few samples to show anyone; sketch and fingerprint still tell every change.
_PHOTOGRAPH_LIMIT = 64
_PHOTOGRAPHS = ("visibility/texture_gt", "patches/texture_gt_patch", "final_image/final_image")
_PARAMETER_STAGES = ("gradients/", "adam/", "d_gradients/", "d_adam/", "g_gradients/", "g_adam/")


class GoldenError(ValueError):
    """A golden that cannot be used or must not be written; the message ends with the command that mends it."""


class GoldenMissing(GoldenError):
    """This platform has no such golden; the live comparison still holds."""


class GoldenCorrupt(GoldenError):
    """The files are truncated, altered or of another schema."""


class GoldenStale(GoldenError):
    """The golden was recorded from other code, weights, head, batch or settings."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Digests (SHA-256) and settings a golden stands for; any change makes it stale."""

    legacy: str
    weights: str
    head: str
    batch: str
    settings: Mapping[str, Any]


_BESIDE = ("digests",)  # what a plan asks for beyond the tensors that a golden holds


def provenance(
    setup: Setup | DetailSetup, batch: Batch, plan: Plan, tree: str = "", legacy_manifest: Path = LEGACY_MANIFEST
) -> Provenance:
    """What a golden of this run would be recorded from; `tree` is the fork's folder under legacy/."""
    files = [line for line in legacy_manifest.read_text().splitlines() if line.split("  ", 1)[-1].startswith(tree)]
    given = {f"{net}/{key}": t for net, state in setup.weights.items() for key, t in state.items()}
    if isinstance(setup, DetailSetup):
        given["expression"] = setup.expression_B50
    return Provenance(
        legacy=hashlib.sha256("\n".join(files).encode()).hexdigest(),
        weights=_digest(given),
        head=_digest({name: value for name, value in vars(setup.head).items() if isinstance(value, Tensor)}),
        batch=batch.digest,
        settings={
            "overrides": dict(setup.overrides),
            "dropout": getattr(setup, "dropout", 0.0),
            **{name: value for name, value in asdict(plan).items() if name not in _BESIDE},
        },
    )


def golden_name(batch: Batch, variant: str) -> str:
    """File stem of a golden, such as `carphone_0040-dropout`; a folder of frames goes by its last part."""
    name = Path(batch.name).name if Path(batch.name).is_dir() else batch.name
    return re.sub(r"[^A-Za-z0-9_.]+", "-", f"{name}-{variant}").strip("-")


def golden_folder(root: Path = GOLDENS, device: str = "cpu") -> Path:
    """Folder of the goldens that claim to hold on this machine."""
    return root / platform_key(device)


def write_golden(trace: Trace, name: str, origin: Provenance, folder: Path) -> Path:
    """Record `trace` as the golden `name` and return its manifest's path.

    Raises:
        GoldenError: if the trace is not legacy's, the legacy tree was altered, or the golden came out too large; an
            existing golden is then left as it was.
    """
    if trace.subject != "legacy":
        raise GoldenError(f"goldens are recorded from legacy only, this trace is of {trace.subject!r}; use {MEND}")
    refuse_altered_legacy()
    about = asdict(origin)
    try:
        return write_recording(trace, folder, name, about=about, limit=_limit, keep_extras=False, max_bytes=MAX_BYTES)
    except RecordingError as error:
        raise GoldenError(f"golden {name}: {error}") from error


def refuse_altered_legacy() -> None:
    """Raise GoldenError if any legacy file differs from `legacy/MANIFEST.sha256`."""
    if altered := check_manifest():
        raise GoldenError(
            f"the legacy tree is altered ({'; '.join(altered[:3])}): goldens are not written from it. "
            "Restore legacy/, or update its MANIFEST.sha256 on purpose, then run " + MEND
        )


def load_golden(name: str, origin: Provenance, folder: Path) -> Recording:
    """Read the golden `name`.

    Raises:
        GoldenMissing: if this platform has none.
        GoldenCorrupt: if it cannot be trusted as a file.
        GoldenStale: if it was recorded from something other than `origin`; the message names what changed.
    """
    try:
        recording = read_recording(folder, name)
    except RecordingMissing as error:
        raise GoldenMissing(f"no golden {name} for {folder.name}: {error}. To record it: {MEND}") from error
    except RecordingError as error:
        raise GoldenCorrupt(f"golden {name} for {folder.name}: {error}. To record it anew: {MEND}") from error
    recorded = recording.manifest.get("about", {})
    changed = [part for part, value in asdict(origin).items() if recorded.get(part) != value]
    if changed:
        raise GoldenStale(
            f"golden {name} for {folder.name} is stale: {', '.join(changed)} changed since it was recorded. "
            f"If that was intended: {MEND}"
        )
    return recording


def golden_index(folder: Path) -> dict[str, dict[str, str]]:
    """Name -> tensor -> fingerprint, of every golden in `folder`; an unreadable one has no tensors."""
    index: dict[str, dict[str, str]] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            entries = read_manifest(folder, path.stem)["tensors"]
        except RecordingError:
            entries = {}
        index[path.stem] = {key: entry["fingerprint"] for key, entry in entries.items()}
    return index


def diff_goldens(old: Mapping[str, Mapping[str, str]], new: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """What a regeneration did, from `golden_index` before it and the goldens written by it.

    Returns:
        One row per golden: golden, status (new, changed, unchanged, orphaned), tensors (how many differ, came or went)
        and first (the earliest of them in pipeline order).
    """
    rows = [_change(name, old.get(name), new.get(name)) for name in sorted({*old, *new})]
    return pd.DataFrame(rows, columns=["golden", "status", "tensors", "first"])


def _change(name: str, before: Mapping[str, str] | None, after: Mapping[str, str] | None) -> tuple[str, str, int, str]:
    if after is None:
        return name, "orphaned", 0, ""
    if before is None:
        return name, "new", 0, ""
    moved = [key for key in dict.fromkeys([*after, *before]) if before.get(key) != after.get(key)]
    return (name, "changed", len(moved), moved[0]) if moved else (name, "unchanged", 0, "")


def remove_orphans(folder: Path, kept: Collection[str], *, full_run: bool) -> list[str]:
    """Delete goldens not in `kept` and return their names; a partial run deletes nothing."""
    orphans = [name for name in golden_index(folder) if name not in kept]
    if not full_run:
        return []
    for name in orphans:
        for suffix in (".json", ".safetensors"):
            (folder / f"{name}{suffix}").unlink(missing_ok=True)
    return orphans


def _limit(key: str) -> int:
    if key.partition("@")[0] in _PHOTOGRAPHS:
        return _PHOTOGRAPH_LIMIT
    return _COARSE_LIMIT if key.startswith(_PARAMETER_STAGES) or "@" in key else LIMIT


def _digest(tensors: Mapping[str, Tensor]) -> str:
    sha = hashlib.sha256()
    for key in sorted(tensors):
        tensor = tensors[key].detach().cpu().contiguous()
        sha.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        sha.update(tensor.numpy().tobytes())
    return sha.hexdigest()
