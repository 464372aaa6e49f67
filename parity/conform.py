"""Conformance: a subject against vectors recorded from the original code, by the rules of their coverage.json.

A folder holds `vectors_<what>.{json,safetensors}`, `keys.json` and `coverage.json`; `<what>` chooses the recipe that
rebuilds weights and inputs from names and computes each vector. A recipe sees names and stored inputs, never an
expected value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from threading import Thread
from typing import Any

from rich.console import Console
from torch import Tensor

from parity.conform_coarse import CoarseRecipe
from parity.conform_deca_base import DecaBaseRecipe
from parity.conform_detail import DetailRecipe
from parity.conform_detail_facts import recorded_facts
from parity.conform_judge import Recipe, judged_vector, known_vector, told, unjudged_vector
from parity.conform_material import Material, Vectors, load_folder
from parity.conform_noise import undecided
from parity.conform_report import ConformReport, SubjectReport, Vector
from parity.coverage import ConformError, Rule, rule_for
from parity.discrepancies import DETAIL, recorded_discrepancy
from parity.environment import isolated_numerics
from parity.subject import Subject

SUBJECTS = ("legacy", "modern")
Builder = Callable[[Any], Subject]
Say = Callable[[str], None]


RECIPES: Mapping[str, Callable[[Material, Builder, str], Recipe]] = {
    "vectors_coarse": CoarseRecipe,
    "vectors_deca_base": DecaBaseRecipe,
    DETAIL: DetailRecipe,
}
# Stems whose JSON holds figures to be judged, and how they are read.
FACTS: Mapping[str, Callable[[Vectors], dict[str, tuple[Tensor, Rule]]]] = {DETAIL: recorded_facts}
ONE_BY_ONE = (DETAIL,)  # stems of which two subjects at once would not fit into memory


def check_folder(folder: Path, subject: str = "both", device: str = "cpu", say: Say | None = None) -> ConformReport:
    """Compute and judge every vector of `folder`; problems are reported, never raised.

    Args:
        folder: holds the four files of one recording and the recipe's assets.
        subject: `legacy`, `modern` or `both` (each in a process of its own, side by side where memory allows).
        device: where the subjects run.
        say: told what is being computed; by default a line on a terminal shows it.
    """
    if say is None:
        with Console(stderr=True).status(f"{folder}: reading") as status:  # silent where there is no terminal
            return check_folder(folder, subject, device, status.update)
    try:
        if subject not in (*SUBJECTS, "both"):
            raise ConformError(f"unknown subject {subject!r}: expected legacy, modern or both")
        vectors = load_folder(folder, RECIPES)  # refused here before anything is built
        _with_facts(vectors)
    except ConformError as error:
        return ConformReport(folder=str(folder), device=device, problem=str(error))
    if subject == "both":
        reports = _in_processes(
            folder, SUBJECTS, device, say, at_once=1 if vectors.material.stem in ONE_BY_ONE else len(SUBJECTS)
        )
    else:
        reports = [check_subject(folder, subject, device, say)]
    return ConformReport(folder=str(folder), device=device, subjects=tuple(reports))


def check_subject(
    folder: Path, subject: str, device: str = "cpu", say: Say = lambda _: None, build: Builder | None = None
) -> SubjectReport:
    """Judge one subject in this process, with deterministic algorithms and as many threads as the recording had.

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
    stem = vectors.material.stem
    recorded, rules = _with_facts(vectors)
    known = {name: recorded_discrepancy(stem, name) for name in rules} if subject == "modern" else {}
    asked = {name: rule for name, rule in rules.items() if rule and (subject in rule.subjects or known.get(name))}
    if not asked:
        return SubjectReport(
            subject=subject, vectors=tuple(unjudged_vector(name, rules[name], subject) for name in rules)
        )
    judged: dict[str, Vector] = {}
    problem, seconds = "", {}
    with isolated_numerics(threads=vectors.threads) as switches:
        try:
            recipe: Recipe = RECIPES[stem](vectors.material, build or _builder(subject, stem), device)
            for name in sorted(asked, key=lambda name: (recipe.order(name), name)):
                say(f"{subject}: {name}")
                if entry := known.get(name):
                    judged[name] = known_vector(name, asked[name], recorded, recipe, entry)
                else:
                    judged[name] = judged_vector(name, asked[name], recorded, recipe, vectors.material.given)
            seconds = dict(getattr(recipe, "seconds", {}))
            around = lambda builder: RECIPES[stem](vectors.material, builder, device)  # noqa: E731
            judged |= undecided(judged, asked, recipe, around, build or _builder(subject, stem), say)
        except Exception as error:  # whatever keeps the inputs from being built is the answer, not a crash
            problem = told(error)
    rows = tuple(judged.get(name) or unjudged_vector(name, rule, subject, problem) for name, rule in rules.items())
    return SubjectReport(subject=subject, vectors=rows, switches=switches, problem=problem, seconds=seconds)


def _with_facts(vectors: Vectors) -> tuple[dict[str, Tensor], dict[str, Rule | None]]:
    """All that was recorded, tensors and the JSON's figures, and the rule of each.

    Raises:
        ConformError: if the JSON lacks figures it should hold.
    """
    recorded = dict(vectors.recorded)
    rules: dict[str, Rule | None] = {name: rule_for(name, vectors.rules) for name in recorded}
    stem = vectors.material.stem
    try:
        facts = FACTS[stem](vectors) if stem in FACTS else {}
    except (LookupError, TypeError, ValueError) as error:
        raise ConformError(f"{vectors.material.folder / stem}.json: unexpected content ({told(error)})") from error
    for name, (value, rule) in facts.items():
        recorded[name], rules[name] = value, rule
    return recorded, rules


def _in_processes(folder: Path, subjects: Sequence[str], device: str, say: Say, at_once: int) -> list[SubjectReport]:
    context = get_context("spawn")
    workers = ProcessPoolExecutor(at_once, mp_context=context, max_tasks_per_child=1)
    with context.Manager() as manager, workers as pool:
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
        return SubjectReport(subject=subject, problem=told(error))


def _builder(subject: str, stem: str) -> Builder:
    """Imported on use: importing legacy changes global settings, and neither subject needs the other."""
    if stem == DETAIL:
        if subject == "legacy":
            from parity.legacy_detail_subject import build_legacy_detail

            return build_legacy_detail
        from parity.modern_detail_subject import build_modern_detail

        return build_modern_detail
    if subject == "legacy":
        from parity.legacy_subject import build_legacy

        return build_legacy
    from parity.modern_subject import build_modern

    return build_modern
