"""One side of a comparison of recordings: a folder that holds one, or a subject of the audit that is traced here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from parity.matching_map import OWN, Entry
from parity.pipelines import PIPELINES, pipeline_of
from parity.recording import Recording, RecordingMissing, read_recording
from parity.trace import Trace, is_stored, load_trace

SUBJECTS = ("legacy", "modern")
# What a stage of a subject yields, by the last part of the stage's name; the recorder says it itself.
_KINDS = {"losses": "loss", "gradients": "gradient", "adam": "update", "buffers": "buffer"}


def load_side(text: str, *, batch: str, steps: int, console: Console) -> Recording:
    """What `text` names: a folder with `manifest.json`, such a .json file, or `legacy[:VARIANT]`, `modern[:VARIANT]`.

    Raises:
        ValueError: neither a recording nor a subject.
        RecordingError: a recording that is truncated, altered or of another schema.
    """
    subject, _, variant = text.partition(":")
    if subject in SUBJECTS and not Path(text).exists():
        return of_trace(_traced(subject, variant or "eval", batch, steps, console))
    path = Path(text)
    folder, name = (path.parent, path.stem) if path.suffix == ".json" else (path, "manifest")
    try:
        return read_recording(folder, name)
    except RecordingMissing as error:
        known = ", ".join(f"{subject}[:VARIANT]" for subject in SUBJECTS)
        raise ValueError(f"{text!r} is no recording ({error}) and no subject; subjects are {known}") from error


def of_trace(trace: Trace) -> Recording:
    """A trace as a recording that was never on disk."""
    from parity.environment import fingerprint

    tensors = {
        name: {"shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
        for name, value in trace.tensors.items()
    }
    manifest = {
        "subject": trace.subject,
        "tensors": tensors,
        "structure": trace.structure,
        "draws": trace.draws,
        "environment": fingerprint(),
        "about": {},
    }
    whole = {name: {"full": value} for name, value in trace.tensors.items()}
    return Recording(manifest=manifest, tensors=whole, extras=trace.extras)


def entries_of(recording: Recording) -> list[Entry]:
    """The tensors of a recording as matching sees them, in order of calls."""
    return [_entry(name, about) for name, about in recording.manifest["tensors"].items()]


def _entry(name: str, about: dict[str, Any]) -> Entry:
    last = name.partition("/")[0].rpartition("_")[2]
    kind = about.get("kind") or _KINDS.get(last, "forward")
    module = about.get("module", "")
    family = OWN if module.startswith(OWN) else module
    return Entry(name, kind, tuple(about["shape"]), about["dtype"], family)


def _traced(subject: str, variant: str, batch: str, steps: int, console: Console) -> Trace:
    from parity.audit import crew, trace_place, traced
    from parity.session import Request, progress

    known = [name for pipeline in PIPELINES.values() for name in pipeline.variants]
    if variant not in known:
        raise ValueError(f"{subject}:{variant}: unknown variant; known: {', '.join(known)}")
    request = Request(batch=batch, pipeline=pipeline_of(variant).name, steps=steps)
    spec = request.variants(batch)[variant]
    if not is_stored(trace_place(spec, subject)):
        with crew() as members, progress(console, {}) as say, say(f"{subject}:{variant}: training step"):
            traced(spec, members, (subject,))
    return load_trace(trace_place(spec, subject))
