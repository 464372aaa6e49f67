"""The ledgers of real runs: training steps, from kept traces where there are any, and epochs of small clips."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from rich.console import Console

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
        clips = [write_clip(Path(scratch) / f"clip{index}", index) for index in range(_CLIPS)]
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


def write_clip(folder: Path, number: int) -> Path:
    """A clip of five frames in the lab's layout (images, kpts, kpts_dense, masks), made of numbers."""
    values = np.random.default_rng(number)
    for kind in ("images", "kpts", "kpts_dense", "masks"):
        (folder / kind).mkdir(parents=True)
    for index in range(_FRAMES):
        name = f"{index:04d}"
        pixels = values.integers(0, 256, (224, 224, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{name}.png")
        for kind, count in (("kpts", 68), ("kpts_dense", 478)):
            points = np.concatenate([values.uniform(-0.7, 0.7, (count, 2)), np.ones((count, 1))], axis=1)
            np.save(folder / kind / f"{name}.npy", points.astype(np.float32))
        np.save(folder / "masks" / f"{name}.npy", values.integers(0, 14, (224, 224)))
    return folder


def write_ledgers(path: Path, ledgers: Sequence[Ledger]) -> None:
    """All ledgers as one JSON document."""
    write_atomically(path, json.dumps([asdict(ledger) for ledger in ledgers], indent=1).encode())
