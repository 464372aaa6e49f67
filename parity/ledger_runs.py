"""The ledgers of real runs: training steps, from kept traces where there are any, and epochs of small clips."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from fixtures.clip_tree import write_clip
from parity.audit import SUBJECTS, crew, traced
from parity.draws import record_draws
from parity.files import write_atomically
from parity.ledger import Ledger, ledger_of
from parity.pipelines import choose
from parity.randomness import seed_everything
from parity.session import Request, progress, usable_batch
from parity.structure import compare_structure
from parity.trace import load_trace
from parity.verdict import Verdict

_CLIPS, _FRAMES = 4, 5


def step_ledgers(
    pipeline: str, batch: str, steps: int, seed: int, console: Console
) -> tuple[list[Ledger], list[Verdict]]:
    """One ledger for each variant, and the verdict of each on the draws."""
    name, _ = usable_batch(batch)
    request = Request(batch=name, pipeline=pipeline, steps=steps, seed=seed)
    ledgers, words = [], []
    with crew() as members, progress(console, {}) as say:
        for variant, spec in request.variants(name).items():
            with say(f"{variant}: training steps of both subjects"):
                folders = traced(spec, members)
            members.fresh()
            one, other = (load_trace(folders[subject]) for subject in SUBJECTS)
            ledgers.append(ledger_of(f"{spec.pipeline}, {variant}: the step", one.draws, other.draws, SUBJECTS))
            findings = compare_structure(one, other, spec.pipeline)
            words += [finding.verdict for finding in findings if finding.name == "draws"]
    return ledgers, words


def data_ledgers(pipeline: str, seed: int) -> list[Ledger]:
    """What making the loader of each side and fetching one epoch of a few small clips draws, without workers."""
    found = []
    with TemporaryDirectory(prefix="clips-") as scratch:
        clips = [write_clip(Path(scratch) / f"clip{index}", _FRAMES) for index in range(_CLIPS)]
        for part in choose(pipeline):
            sides = []
            for subject in SUBJECTS:
                fetch = getattr(import_module(f"parity.{subject}_loading"), f"fetch_{part.name}")
                seed_everything(seed)
                with record_draws() as log:
                    fetch(clips)
                sides.append([{"step": 0, **draw} for draw in log.draws])
            found.append(ledger_of(f"{part.name}: an epoch of {_CLIPS} clips", sides[0], sides[1], SUBJECTS))
    return found


def write_ledgers(path: Path, ledgers: Sequence[Ledger]) -> None:
    """All ledgers as one JSON document."""
    write_atomically(path, json.dumps([asdict(ledger) for ledger in ledgers], indent=1).encode())
