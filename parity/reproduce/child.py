"""The fresh process of a run: `python -m parity.reproduce.child JOB.json`."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import torch

from fixtures.clip_tree import clip_tree
from parity.environment import fingerprint
from parity.reproduce import chance, numerics
from parity.reproduce.evidence import NOTE, NOTEBOOK, compiled_graphs
from parity.reproduce.own import is_own, noticed, said, sources
from parity.reproduce.place import Place
from parity.reproduce.run import Run, load_run
from parity.reproduce.watch import Watch

Training = Callable[[Run, Place, Watch], None]


def training_of(run: Run) -> Training:
    """The function that trains a run's subject.

    Raises:
        ValueError: no such subject or pipeline.
    """
    module, _, function = run.subject.partition(":")
    if not function:
        infix = "" if run.pipeline == "coarse" else f"_{run.pipeline}"
        module, function = f"parity.{run.subject}{infix}_training", "train"
    try:
        found: Training = getattr(import_module(module), function)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ValueError(f"subject {run.subject!r} cannot be trained in pipeline {run.pipeline!r}: {error}") from error
    return found


def perform(run: Run, place: Place, watch: Watch) -> None:
    """Everything a run does in this process; a subject of your own leaves what it looked at and where its code is."""
    NOTEBOOK.clear()
    numerics.apply(run)
    with chance.generators(run), numerics.listing(run):
        training = training_of(run)
        if not is_own(run.subject):
            training(run, place, watch)
            return
        before = sources()  # at once: the file may be edited while a long training runs
        shown, read = noticed(run)
        try:
            training(shown, place, watch)
        finally:
            NOTEBOOK.facts["read"] = sorted(read)
            watch.notes["sources"] = sources() | before


def main(job: Path) -> None:
    """Perform the job and leave its result; an error is left as a result too, with its type and message."""
    document = json.loads(job.read_text())
    run, out = load_run(document["run"]), Path(document["out"])
    reference = Path(document["reference"]) if document["reference"] else None
    place = Place(Path(document["shared"]), Path(document["scratch"]))
    clip_tree(place.clips)
    place.scratch.mkdir(parents=True, exist_ok=True)
    sys.path += [folder for folder in document.get("path", ()) if folder not in sys.path]
    watch, start = Watch(reference, keep=document["keep"]), time.perf_counter()
    try:
        perform(run, place, watch)
    except Exception as error:  # whatever the subject raises is what is to be reported
        watch.notes["error"] = said(error)
    watch.notes |= {
        NOTE: NOTEBOOK.written() | {"graphs": compiled_graphs(), "steps": watch.steps()},
        "wall": time.perf_counter() - start,
        "cpu": sum(os.times()[:4]),
        "environment": fingerprint(),
        "threads": torch.get_num_threads(),
    }
    if os.environ.get("RANK", "0") == "0":  # of several processes of one run, the first one speaks
        watch.write(out)


def leave() -> None:
    """End one of several processes without destructors: a process group's may wait for ever for its own threads."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    if "RANK" in os.environ:
        leave()
