"""Fingerprints of every operation of the first step, in call order: which one is the first to differ?"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from parity.files import ROOT
from parity.ops import Call, listening
from parity.reproduce.run import Run
from parity.reproduce.watch import Watch

NOTE, RACERS = "operations", "racing operations"
MOST = 20_000  # entries of a log: AUcGAN loops over all pairs of action units, and what moves moves early
# They compute nothing: copies for another layout, which one make-up of a batch needs and another does not, and memory
# that nobody has written to yet.
_IDLE = ("aten.clone.", "aten._unsafe_view.", "aten.contiguous.", "aten.empty", "aten.new_empty")
Entry = list[Any]  # name, module, source, backward, one [shape, fingerprint] per output


@dataclass(frozen=True)
class Moved:
    """The first operation whose result is not the same bytes; `compared` operations before it were.

    changed: the sequence of operations itself differs there, so that results cannot be compared any further.
    """

    op: str
    module: str
    source: str
    backward: bool
    compared: int
    changed: bool = False


class OperationLog:
    """Listens from `start` to `stop` and leaves the log among the notes of `watch`; idle unless the run asks for it."""

    def __init__(self, run: Run, watch: Watch, modules: Mapping[str, nn.Module], share: int = 1) -> None:
        """`share`: of outputs whose first axis can be split so often, only the first part is looked at."""
        self._asked, self._watch, self._modules, self._share = run.operations, watch, modules, share
        self._stack = ExitStack()

    def start(self, step: int = 0) -> None:
        """Listen, if this is the first step."""
        if self._asked and step == 0:
            self._watch.notes |= {NOTE: [], RACERS: 0}
            self._stack.enter_context(listening(self, self._modules))

    def stop(self) -> None:
        """Listen no more."""
        self._stack.close()

    def before(self, call: Call, inputs: Sequence[Tensor]) -> None:
        """Nothing is needed of inputs."""

    def after(self, call: Call, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        """Note the outputs of an operation that computes something."""
        self._watch.notes[RACERS] += "index_put" in call.op and ("accumulate", "True") in call.scalars
        if not (call.view or call.op.startswith(_IDLE)):
            self._note(call.op, call.module, _short(call.source), call.backward, outputs)

    def _note(self, op: str, module: str, source: str, backward: bool, outputs: Sequence[Tensor]) -> None:
        if len(self._watch.notes[NOTE]) < MOST and not self._watch.looking:
            start = time.perf_counter()
            found = [[list(output.shape), _digest(self._part(output))] for output in outputs]
            self._watch.notes[NOTE].append([op, module, source, backward, found])
            self._watch.spent(time.perf_counter() - start)

    def _part(self, output: Tensor) -> Tensor:
        count = output.shape[0] if output.ndim else 0
        return output[: count // self._share] if count and count % self._share == 0 else output


def _digest(output: Tensor) -> str:
    """Of dtype and bytes; quicker for many small tensors than `parity.fingerprint`, and never stored beyond a log."""
    flat = output.detach().resolve_conj().resolve_neg().cpu().contiguous().view(-1)
    return hashlib.sha256(str(flat.dtype).encode() + flat.view(torch.uint8).numpy().tobytes()).hexdigest()[:16]


def first_moved(reference: Sequence[Entry], other: Sequence[Entry], share: int = 1) -> Moved | None:
    """The first entry of `other` that is not as in `reference`.

    Args:
        reference: log of the baseline.
        other: log of a run that may have had `share` times as many samples; entries whose outputs have no shape to
            match, since they are not laid out by sample, are passed over.
        share: see there.
    """
    for index, (before, after) in enumerate(zip(reference, other, strict=False)):
        where = {"op": after[0], "module": after[1], "source": after[2], "backward": after[3], "compared": index}
        if before[0] != after[0] or len(before[4]) != len(after[4]):
            return Moved(**where, changed=True)
        for (shape, digest), (other_shape, other_digest) in zip(before[4], after[4], strict=True):
            if share > 1 and other_shape != [share * size if axis == 0 else size for axis, size in enumerate(shape)]:
                continue
            if digest != other_digest:
                return Moved(**where)
    if len(reference) != len(other):
        return Moved("(end)", "", "", False, min(len(reference), len(other)), changed=True)
    return None


def _short(source: str) -> str:
    path, _, line = source.rpartition(":")
    inside = Path(path)
    return f"{inside.relative_to(ROOT) if inside.is_relative_to(ROOT) else inside.name}:{line}" if path else ""
