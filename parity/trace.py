"""What one run yields: tensors by `stage/name` in call order, structure, random draws."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor


def snapshot(tensor: Tensor) -> Tensor:
    """A private, contiguous copy that no later in-place operation can reach."""
    return tensor.detach().contiguous().clone()


_FACTS = "facts.json"  # written last: a folder that holds it is complete


@dataclass(kw_only=True)
class Trace:
    """Recorded tensors of one run.

    tensors: `stage/name` -> copy, in the order the subject computed them; later steps as `stage/name@k`.
    structure: plain, comparable facts (key order, aliasing, mutated inputs), see `parity/structure.py`.
    draws: one entry per random draw of a training step: {"step", "op", "shape", "p", "generator"}.
    extras: tensors outside the contract (for example `dropout_masks`), never compared across subjects by the audit.
    aftermath: digests of all that the run left behind before anything was put back, see `parity/aftermath.py`.
    leftovers: places where something is still hooked, patched or switched after the run; empty as it should be.
    resources: what the run took, `seconds` and `peak_gb` (largest resident memory of its process); shown, not judged.
    """

    subject: str
    tensors: dict[str, Tensor] = field(default_factory=dict)
    structure: dict[str, Any] = field(default_factory=dict)
    draws: list[dict[str, Any]] = field(default_factory=list)
    extras: dict[str, Tensor] = field(default_factory=dict)
    aftermath: dict[str, str] = field(default_factory=dict)
    leftovers: list[str] = field(default_factory=list)
    resources: dict[str, float] = field(default_factory=dict)

    def put(self, stage: str, values: Mapping[str, Tensor], step: int = 0) -> None:
        """Copy `values` in under `stage`, suffixed for steps after the first."""
        self.take(stage, {name: snapshot(value) for name, value in values.items()}, step)

    def take(self, stage: str, values: Mapping[str, Tensor], step: int = 0) -> None:
        """Like `put`, but without a copy, for what nobody writes to any more; a view of something larger is copied."""
        suffix = f"@{step}" if step else ""
        for name, value in values.items():
            whole = value.is_contiguous() and value.untyped_storage().nbytes() == value.nbytes
            self.tensors[f"{stage}/{name}{suffix}"] = value.detach() if whole else snapshot(value)

    def put_update(
        self, gradients: tuple[str, Mapping[str, Tensor]], adam: tuple[str, Mapping[str, Tensor]], step: int, last: bool
    ) -> None:
        """Gradients and optimizer states after an update, each as (stage, values).

        After the last step their owners let go of gradients and moments, which are three quarters of the bytes: taking
        instead of copying them saves time and memory. Parameters are put back in place and so are always copied.
        """
        keep = self.take if last else self.put
        keep(*gradients, step)
        stage, states = adam
        for name, value in states.items():
            (self.put if name.startswith("parameter/") else keep)(stage, {name: value}, step)

    def stage(self, stage: str, step: int = 0) -> dict[str, Tensor]:
        """The tensors of one stage and step, without prefix and suffix."""
        suffix = f"@{step}" if step else ""
        prefix = f"{stage}/"
        found = {}
        for key, value in self.tensors.items():
            if key.startswith(prefix) and key.endswith(suffix) and (step or "@" not in key):
                found[key[len(prefix) : len(key) - len(suffix) or None]] = value
        return found


def save_trace(trace: Trace, folder: Path) -> None:
    """Write every tensor in full, atomically: `folder` appears complete or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=".part-") as scratch:
        part = Path(scratch) / "trace"
        part.mkdir()
        for name in ("tensors", "extras"):
            save_file({key: value.cpu() for key, value in getattr(trace, name).items()}, part / f"{name}.safetensors")
        facts = {
            "subject": trace.subject,
            "order": list(trace.tensors),
            "structure": trace.structure,
            "draws": trace.draws,
            "aftermath": trace.aftermath,
            "leftovers": trace.leftovers,
            "resources": trace.resources,
        }
        (part / _FACTS).write_text(json.dumps(facts))
        if folder.exists():
            shutil.rmtree(folder)
        part.replace(folder)


def is_stored(folder: Path) -> bool:
    """Whether a complete trace lies at `folder`."""
    return (folder / _FACTS).exists()


def load_trace(folder: Path) -> Trace:
    """Read what `save_trace` wrote, tensors memory-mapped where the platform allows.

    Raises:
        FileNotFoundError: no complete trace at `folder`.
    """
    facts = json.loads((folder / _FACTS).read_text())
    tensors = load_file(folder / "tensors.safetensors")
    return Trace(
        subject=facts["subject"],
        tensors={key: tensors[key] for key in facts["order"]},
        structure=facts["structure"],
        draws=facts["draws"],
        extras=load_file(folder / "extras.safetensors"),
        aftermath=facts["aftermath"],
        leftovers=facts["leftovers"],
        resources=facts["resources"],
    )
