"""The single operation where modern departs inside a stage, with module and source line on both sides.

`locate` is all that others need. It replays the stage on both sides with the reference's recorded inputs, each in its
own process unless that is the calling one, and compares the two by their data, not by position (parity/suspects.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from parity import worker
from parity.culprit_tapes import anatomy_of, legacy_tape, prepare, tape_of
from parity.files import ROOT
from parity.located import Located, Place
from parity.noise import C
from parity.ops import Call
from parity.sketch import distance
from parity.suspects import Suspect, suspects
from parity.tape import Tape
from parity.worker import RunSpec

__all__ = ["compare_tapes", "legacy_tape", "locate", "prepare"]


def locate(
    spec: RunSpec, stage: str, reference: Path, tensors: Sequence[str] = (), legacy: Tape | None = None
) -> Located | None:
    """Name the operation of modern that makes the difference of `stage`.

    Modern runs in the calling process, so a modern that was changed and imported there is the one that is examined.
    Legacy's side comes from .cache/tapes, or is made in a process of its own and kept there.

    Args:
        spec: the run.
        stage: a stage that can be replayed (`Stage.isolated`).
        reference: folder of legacy's stored trace (`audit.trace_place(spec, "legacy")`).
        tensors: results of the stage that drift, without the stage's name; by default those beyond C times the floor
            of this replay, or if there are none, those that are not the same bytes.
        legacy: legacy's tape, if the caller has it.

    Returns:
        None if modern's results are legacy's, or no operation of the stage computes them.

    Raises:
        FileNotFoundError: the recording is gone; an audit makes it anew.
        KeyError: no such stage, or one that cannot be replayed.
    """
    if worker.pipeline_of(spec).by_name[stage].gradients:
        return _located_update(spec, stage, reference)
    return compare_tapes(
        stage, tape_of(spec, "modern", stage, reference), legacy or legacy_tape(spec, stage, reference), tensors
    )


def compare_tapes(stage: str, modern: Tape, legacy: Tape, tensors: Sequence[str] = ()) -> Located | None:
    """`locate` on tapes of both sides."""
    unequal = tuple(tensors) or unequal_results(modern, legacy)
    found = suspects(modern, legacy, unequal) if unequal else []
    if not found:
        return None
    first = found[0]
    here = _place(modern, first)
    return Located(
        stage=stage,
        file=here.file,
        line=here.line,
        function=here.function,
        module=here.module,
        op=here.op,
        backward=here.backward,
        legacy=place(legacy.steps[first.legacy].call) if first.legacy is not None else None,
        differences=list(first.differences),
        rel_l2=first.distance,
        tensors=list(unequal),
        agreed=first.agreed,
        operations=first.modern,
        others=list(dict.fromkeys(_place(modern, other) for other in found[1:4])),
    )


def unequal_results(modern: Tape, legacy: Tape) -> tuple[str, ...]:
    """Results beyond C times their floor; if there are none, those that are not the same bytes."""
    apart, beyond = [], []
    for name, expected in legacy.results.items():
        found = modern.results.get(name)
        if found is None:
            continue
        error = distance(expected.sketch, found.sketch)
        floor = max(
            (max(legacy.floors[index], default=0.0) for index in expected.writers if legacy.floors), default=0.0
        )
        if error:
            apart.append(name)
        if error > C * max(floor, expected.sketch.roundoff):
            beyond.append(name)
    return tuple(beyond or apart)


def _located_update(spec: RunSpec, stage: str, reference: Path) -> Located | None:
    anatomy = anatomy_of(spec, stage, reference)
    if not anatomy.departs:
        return None
    first = next((part for part in anatomy.ingredients if not part.agrees), None)
    here, there = _built(anatomy.made), _built(anatomy.legacy_made)
    return Located(
        stage=stage,
        file=here.file,
        line=here.line,
        function=here.function,
        module="",
        op=here.op,
        backward=False,
        legacy=there,
        differences=[anatomy.sentence],
        rel_l2=first.rel_l2 if first else 0.0,
        tensors=[first.name] if first else [],
        agreed=anatomy.ingredients.index(first) if first else len(anatomy.ingredients),
        operations=len(anatomy.ingredients),
    )


def _built(made: tuple[str, str]) -> Place:
    file, line = _source(made[0])
    return Place(op="optimizer", module="", file=file, line=line, function=made[1], backward=False)


def place(call: Call) -> Place:
    """Where an operation stands."""
    file, line = _source(call.caller or call.source)
    return Place(op=call.op, module=call.module, file=file, line=line, function=call.function, backward=call.backward)


def _source(text: str) -> tuple[str, int]:
    """File, relative to the repository if it lies inside, and line of "file:line"."""
    file, _, line = text.rpartition(":")
    path = Path(file)
    return (path.relative_to(ROOT).as_posix() if file and path.is_relative_to(ROOT) else file), int(line or 0)


def _place(modern: Tape, suspect: Suspect) -> Place:
    return place(modern.steps[suspect.modern].call)
