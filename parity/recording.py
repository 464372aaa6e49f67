"""A trace on disk: `<name>.json` (the manifest) beside `<name>.safetensors`, written as one and checked when read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from parity.comparison import Drift
from parity.environment import fingerprint as environment
from parity.files import write_atomically
from parity.fingerprint import content
from parity.summary import Stored, compare_summary, stored_tensor, summarise
from parity.trace import Trace

SCHEMA = 1
_PART = "::"  # between a tensor's name and the part of its summary


class RecordingError(ValueError):
    """A recording that cannot be used; the message says what is wrong, where, and how to mend it."""


class RecordingMissing(RecordingError):
    """No recording at the given place."""


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A trace read back.

    manifest: the JSON document: schema, subject, order of tensors, structure, draws, environment, `about`.
    tensors: name -> stored parts (see `parity/summary.py`), in the order the subject computed them.
    extras: the trace's extras, whole.
    """

    manifest: Mapping[str, Any]
    tensors: Mapping[str, Stored]
    extras: Mapping[str, Tensor]

    def compare(self, name: str, live: Tensor) -> Drift:
        """Drift of `live` against the recorded tensor; raises KeyError for a name that was not recorded."""
        return compare_summary(self.tensors[name], live)

    def trace(self) -> Trace:
        """The recorded trace; tensors kept as a summary only are left out."""
        whole = {name: stored_tensor(parts) for name, parts in self.tensors.items()}
        return Trace(
            subject=self.manifest["subject"],
            tensors={name: tensor for name, tensor in whole.items() if tensor is not None},
            structure=dict(self.manifest["structure"]),
            draws=list(self.manifest["draws"]),
            extras=dict(self.extras),
        )


def write_recording(
    trace: Trace,
    folder: Path,
    name: str = "manifest",
    *,
    about: Mapping[str, Any] | None = None,
    limit: Callable[[str], int | None] = lambda _: None,
    keep_extras: bool = True,
    max_bytes: int | None = None,
) -> Path:
    """Write `trace` into `folder` and return the manifest's path; equal traces give equal bytes.

    Args:
        trace: what to record.
        folder: made if missing; an earlier recording of the same name is replaced only once the new one is complete.
        name: stem of the two files.
        about: JSON values kept under `about`, for example digests of code and inputs.
        limit: elements to keep of the named tensor (see `summarise`); None keeps all of it.
        keep_extras: also write the trace's extras.
        max_bytes: largest size of the tensor file.

    Raises:
        RecordingError: if the tensors take more than `max_bytes`; nothing is written then.
    """
    extras = trace.extras if keep_extras else {}
    stored = {key: _stored(tensor, limit(key)) for key, tensor in trace.tensors.items()}
    payload = save(_flat(stored, extras), metadata={"parity": json.dumps({"schema": SCHEMA}, sort_keys=True)})
    if max_bytes is not None and len(payload) > max_bytes:
        raise RecordingError(
            f"{folder / name} would take {len(payload)} bytes, allowed {max_bytes}; record fewer steps"
        )
    manifest = {
        "schema": SCHEMA,
        "subject": trace.subject,
        "tensors": {key: _entry(tensor) for key, tensor in trace.tensors.items()},
        "extras": list(extras),
        "structure": trace.structure,
        "draws": trace.draws,
        "environment": environment(),
        "about": dict(about or {}),
        "safetensors": {"sha256": hashlib.sha256(payload).hexdigest(), "bytes": len(payload)},
    }
    # Serialised before anything is written: a structure JSON cannot hold must not leave half a recording behind.
    document = json.dumps(manifest, indent=1, default=_plain).encode() + b"\n"
    write_atomically(folder / f"{name}.safetensors", payload)
    write_atomically(folder / f"{name}.json", document)
    return folder / f"{name}.json"


def read_recording(folder: Path, name: str = "manifest") -> Recording:
    """Read a recording and check it against its own digests.

    Raises:
        RecordingMissing: if either file is absent.
        RecordingError: if the manifest is no manifest of this schema, or the tensors are truncated or altered.
    """
    manifest = read_manifest(folder, name)
    path = folder / f"{name}.safetensors"
    if not path.exists():
        raise RecordingMissing(f"{path} is missing although its manifest is there; record it again")
    payload = path.read_bytes()
    _check_payload(path, payload, manifest["safetensors"])
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in load(payload).items():
        owner, part = key.rsplit(_PART, 1)
        parts.setdefault(owner, {})[part] = tensor
    if absent := [key for key in manifest["tensors"] if key not in parts]:
        raise RecordingError(f"{path} lacks {', '.join(absent[:3])} of its manifest; record it again")
    return Recording(
        manifest=manifest,
        tensors={key: parts[key] for key in manifest["tensors"]},
        extras={key: parts[key]["extra"] for key in manifest["extras"]},
    )


def read_manifest(folder: Path, name: str = "manifest") -> dict[str, Any]:
    """The manifest alone, without reading tensors; raises as `read_recording`."""
    path = folder / f"{name}.json"
    if not path.exists():
        raise RecordingMissing(f"no recording {path}; record it first")
    try:
        manifest = json.loads(path.read_bytes())
    except ValueError as error:
        raise RecordingError(f"{path} is not valid JSON ({error}); record it again") from error
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        found = manifest.get("schema") if isinstance(manifest, dict) else type(manifest).__name__
        raise RecordingError(f"{path} has schema {found!r}, this version reads {SCHEMA}; record it again")
    needed = {"subject", "tensors", "extras", "structure", "draws", "safetensors"}
    if absent := sorted(needed - manifest.keys()):
        raise RecordingError(f"{path} lacks {', '.join(absent)}; record it again")
    return manifest


def _stored(tensor: Tensor, limit: int | None) -> dict[str, Tensor]:
    return {"full": tensor} if limit is None else summarise(tensor, limit)


def _flat(stored: Mapping[str, Stored], extras: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One level of names; contiguous copies, since safetensors refuses strided and shared memory."""
    flat = {f"{key}{_PART}{part}": tensor for key, parts in stored.items() for part, tensor in parts.items()}
    flat |= {f"{key}{_PART}extra": tensor for key, tensor in extras.items()}
    return {key: tensor.detach().cpu().contiguous().clone() for key, tensor in flat.items()}


def _entry(tensor: Tensor) -> dict[str, Any]:
    return {
        "shape": list(tensor.shape),
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "fingerprint": f"{content(tensor) & (1 << 64) - 1:016x}",
    }


def _plain(value: Any) -> Any:
    """JSON form of the few non-JSON values that structures hold."""
    if isinstance(value, torch.dtype | torch.device | Path):
        return str(value)
    if isinstance(value, set | frozenset | torch.Size):
        return sorted(value) if isinstance(value, set | frozenset) else list(value)
    raise TypeError(f"a recording cannot hold {type(value).__name__}: {value!r}")


def _check_payload(path: Path, payload: bytes, expected: Mapping[str, Any]) -> None:
    if len(payload) != expected["bytes"]:
        raise RecordingError(
            f"{path} is truncated or altered: {len(payload)} bytes, its manifest says {expected['bytes']}; "
            "restore it from version control or record it again"
        )
    if hashlib.sha256(payload).hexdigest() != expected["sha256"]:
        raise RecordingError(
            f"{path} is corrupt: its SHA-256 is not the manifest's; restore it from version control or record it again"
        )
