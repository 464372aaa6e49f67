"""Conformance: a subject against vectors recorded from the original code, by the rules of their coverage.json.

A folder holds `vectors_<what>.{json,safetensors}`, `keys.json` and `coverage.json`; `<what>` chooses the recipe that
rebuilds weights and inputs from names and computes each vector. A recipe sees names and stored inputs, never an
expected value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from threading import Thread
from typing import Any, Protocol

import torch
from rich.console import Console
from torch import Tensor

from parity.comparison import compare
from parity.conform_coarse import CoarseRecipe
from parity.conform_deca_base import DecaBaseRecipe
from parity.conform_material import Material, Vectors, load_folder
from parity.conform_noise import within_noise
from parity.conform_report import ConformReport, Outcome, SubjectReport, Vector
from parity.coverage import ConformError, Rule, judge, rule_for
from parity.environment import isolated_numerics
from parity.subject import Setup, Subject

SUBJECTS = ("legacy", "modern")
FACE_IDS = "render/pix_to_face"
_ROUNDED = ("rel_max", "rel", "abs")  # the other metrics allow for rounding themselves, or for none
Builder = Callable[[Setup], Subject]
Say = Callable[[str], None]


class Recipe(Protocol):
    """How the vectors of one stem are computed."""

    def order(self, name: str) -> int:
        """Sort key that puts vectors of one run beside each other."""
        ...

    def compute(self, name: str) -> Tensor:
        """The subject's value of a vector; raises LookupError if recipe or subject does not know it."""
        ...


RECIPES: Mapping[str, Callable[[Material, Builder, str], Recipe]] = {
    "vectors_coarse": CoarseRecipe,
    "vectors_deca_base": DecaBaseRecipe,
}


def check_folder(folder: Path, subject: str = "both", device: str = "cpu", say: Say | None = None) -> ConformReport:
    """Compute and judge every vector of `folder`; problems are reported, never raised.

    Args:
        folder: holds the four files of one recording and the recipe's assets.
        subject: `legacy`, `modern` or `both` (side by side, each in a process of its own).
        device: where the subjects run.
        say: told what is being computed; by default a line on a terminal shows it.
    """
    if say is None:
        with Console(stderr=True).status(f"{folder}: reading") as status:  # silent where there is no terminal
            return check_folder(folder, subject, device, status.update)
    try:
        if subject not in (*SUBJECTS, "both"):
            raise ConformError(f"unknown subject {subject!r}: expected legacy, modern or both")
        load_folder(folder, RECIPES)  # refused here before anything is built
    except ConformError as error:
        return ConformReport(folder=str(folder), device=device, problem=str(error))
    if subject == "both":
        reports = _side_by_side(folder, SUBJECTS, device, say)
    else:
        reports = [check_subject(folder, subject, device, say)]
    return ConformReport(folder=str(folder), device=device, subjects=tuple(reports))


def check_subject(
    folder: Path, subject: str, device: str = "cpu", say: Say = lambda _: None, build: Builder | None = None
) -> SubjectReport:
    """Judge one subject in this process, with one thread and deterministic algorithms, like the recording.

    Args:
        folder: as for `check_folder`.
        subject: name used in coverage.json.
        device: where the subject runs.
        say: told each vector's name before it is computed.
        build: makes the subject; by default the repository's own of that name.

    Raises:
        ConformError: if the folder cannot be judged.
    """
    vectors = load_folder(folder, RECIPES)
    rules = {name: rule_for(name, vectors.rules) for name in vectors.recorded}
    asked = {name: rule for name, rule in rules.items() if rule and subject in rule.subjects}
    if not asked:
        return SubjectReport(subject=subject, vectors=tuple(_not_judged(name, rules[name], subject) for name in rules))
    judged: dict[str, Vector] = {}
    problem = ""
    with isolated_numerics(threads=1) as switches:
        try:
            recipe = RECIPES[vectors.material.stem](vectors.material, build or _builder(subject), device)
            for name in sorted(asked, key=lambda name: (recipe.order(name), name)):
                say(f"{subject}: {name}")
                judged[name] = _vector(name, asked[name], vectors.recorded, recipe, vectors.material.given)
            judged |= _undecided(judged, vectors, recipe, build or _builder(subject), device, say)
        except Exception as error:  # whatever keeps the inputs from being built is the answer, not a crash
            problem = _told(error)
    rows = tuple(judged.get(name) or _not_judged(name, rule, subject, problem) for name, rule in rules.items())
    return SubjectReport(subject=subject, vectors=rows, switches=switches, problem=problem)


def _undecided(
    judged: Mapping[str, Vector], vectors: Vectors, recipe: Recipe, build: Builder, device: str, say: Say
) -> dict[str, Vector]:
    """Misses that the subject's own rounding noise on this processor explains, with that noise."""
    missed = {
        name: vector.figure
        for name, vector in judged.items()
        if vector.outcome is Outcome.DISAGREES and vector.figure is not None and vector.metric in _ROUNDED
    }
    if not missed:
        return {}
    say(f"{len(missed)} vectors miss their bound: measuring the rounding noise of this processor")
    rules = {name: rule_for(name, vectors.rules) for name in missed}

    def figure(name: str, clean: Tensor, noisy: Tensor) -> float:
        rule = rules[name]
        assert rule is not None  # what no rule asks for was not judged
        return judge(rule, clean, noisy, None)[0]

    def around(builder: Builder) -> Recipe:
        return RECIPES[vectors.material.stem](vectors.material, builder, device)

    noise = within_noise(missed, recipe, around, build, figure)
    note = "rounding on this processor: the subject moves by {:.1e} under one-ULP input noise; {}"
    return {
        name: replace(judged[name], outcome=Outcome.UNDECIDED, note=note.format(level, judged[name].note).rstrip("; "))
        for name, level in noise.items()
    }


def _side_by_side(folder: Path, subjects: Sequence[str], device: str, say: Say) -> list[SubjectReport]:
    context = get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(len(subjects), mp_context=context) as pool:
        told = manager.Queue()
        listener = Thread(target=_pass_on, args=(told, say), daemon=True)
        listener.start()
        jobs = [pool.submit(check_subject, folder, subject, device, told.put) for subject in subjects]
        try:
            return [_result(job, subject) for job, subject in zip(jobs, subjects, strict=True)]
        finally:
            told.put(None)
            listener.join()


def _pass_on(told: Any, say: Say) -> None:
    """Hand what the processes say to `say` until told None."""
    for text in iter(told.get, None):
        say(text)


def _result(job: Any, subject: str) -> SubjectReport:
    try:
        return job.result()
    except Exception as error:  # a process that died, for example of memory
        return SubjectReport(subject=subject, problem=_told(error))


def _builder(subject: str) -> Builder:
    """Imported on use: importing legacy changes global settings, and neither subject needs the other."""
    if subject == "legacy":
        from parity.legacy_subject import build_legacy

        return build_legacy
    from parity.modern_subject import build_modern

    return build_modern


def _vector(
    name: str, rule: Rule, recorded: Mapping[str, Tensor], recipe: Recipe, given: Mapping[str, Tensor]
) -> Vector:
    note = "stored input, used as given" if name in given else rule.note
    row: dict[str, Any] = {"name": name, "metric": rule.metric, "bound": rule.bound, "note": note}
    if rule.metric == "info":
        return Vector(outcome=Outcome.INFO, **row)
    try:
        computed = recipe.compute(name).detach().cpu()
        same_face = None
        if rule.metric == "raster" and FACE_IDS in recorded:
            same_face = recorded[FACE_IDS].to(torch.int64) == recipe.compute(FACE_IDS).cpu()
        return _judged(row, rule, recorded[name], computed, same_face)
    except Exception as error:  # one vector that cannot be had must not hide the others
        return Vector(outcome=Outcome.NOT_COMPUTED, **{**row, "note": _told(error)})


def _judged(row: dict[str, Any], rule: Rule, recorded: Tensor, computed: Tensor, same_face: Tensor | None) -> Vector:
    if recorded.is_floating_point():
        computed = computed.to(recorded.dtype)
    else:  # ids and masks are stored in small integer types; float64 holds both sides without loss
        recorded, computed = recorded.to(torch.float64), computed.to(torch.float64)
    drift = compare(recorded, computed)
    if drift.structural:
        return Vector(outcome=Outcome.DISAGREES, bitwise=False, **{**row, "note": drift.structural})
    figure, within = judge(rule, recorded, computed, same_face)
    return Vector(
        outcome=Outcome.AGREES if within else Outcome.DISAGREES,
        figure=figure,
        max_abs=drift.max_abs,
        rel_l2=drift.rel_l2,
        bitwise=drift.bitwise,
        **row,
    )


def _not_judged(name: str, rule: Rule | None, subject: str, problem: str = "") -> Vector:
    if rule is None:
        return Vector(name=name, outcome=Outcome.NOT_ASKED, note="no rule in coverage.json matches")
    if subject in rule.subjects:
        return Vector(name=name, outcome=Outcome.NOT_COMPUTED, metric=rule.metric, bound=rule.bound, note=problem)
    note = f"asked of {', '.join(rule.subjects) or 'nobody'}, not of {subject}"
    note += f": {rule.note}" if rule.note else ""
    return Vector(name=name, outcome=Outcome.NOT_ASKED, metric=rule.metric, bound=rule.bound, note=note)


def _told(error: Exception) -> str:
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
