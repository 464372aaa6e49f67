"""Tapes on disk: JSON for what happened, one array for the sketches. Nothing in a file is executed when it is read."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from parity.files import write_atomically
from parity.ops import Call
from parity.sketch import Sketch
from parity.tape import Step, Tape, Value

_FIGURES = ("count", "norm", "roundoff", "constant", "bag", "odd")


def write_tape(path: Path, tape: Tape) -> None:
    """Store `tape` as an .npz file, atomically."""
    store = _Store()
    document = {
        "steps": [
            [asdict(step.call), [store.value(value) for value in step.inputs], [store.put(x) for x in step.outputs]]
            for step in tape.steps
        ],
        "results": {name: store.value(value) for name, value in tape.results.items()},
        "inputs": {name: store.value(value) for name, value in tape.inputs.items()},
        "floors": tape.floors,
        "sketches": store.figures,
    }
    packed = io.BytesIO()
    np.savez_compressed(
        packed, parts=np.array(store.parts), document=np.frombuffer(json.dumps(document).encode(), np.uint8)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, packed.getvalue())


def read_tape(path: Path) -> Tape:
    """Read what `write_tape` wrote.

    Raises:
        FileNotFoundError: no tape there.
        ValueError: not a tape.
    """
    with np.load(path, allow_pickle=False) as file:
        document, parts = json.loads(file["document"].tobytes()), file["parts"]
    sketches = [
        Sketch(**dict(zip(_FIGURES, row, strict=True)), parts=parts[i]) for i, row in enumerate(document["sketches"])
    ]

    def value(stored: list[Any]) -> Value:
        return Value(sketches[stored[0]], tuple(stored[1]), stored[2])

    def call(stored: dict[str, Any]) -> Call:
        return Call(**{**stored, "scalars": tuple((name, text) for name, text in stored["scalars"])})

    return Tape(
        steps=tuple(
            Step(call(made), tuple(map(value, read)), tuple(sketches[i] for i in outputs))
            for made, read, outputs in document["steps"]
        ),
        results={name: value(stored) for name, stored in document["results"].items()},
        inputs={name: value(stored) for name, stored in document["inputs"].items()},
        floors=tuple(map(tuple, document["floors"])),
    )


class _Store:
    """Each different sketch once."""

    def __init__(self) -> None:
        self.figures: list[list[Any]] = []
        self.parts: list[Any] = []
        self._places: dict[Any, int] = {}

    def put(self, sketch: Sketch) -> int:
        key = (sketch.key, sketch.roundoff)
        if key not in self._places:
            self._places[key] = len(self.figures)
            self.figures.append([getattr(sketch, name) for name in _FIGURES])
            self.parts.append(sketch.parts)
        return self._places[key]

    def value(self, value: Value) -> list[Any]:
        return [self.put(value.sketch), list(value.writers), value.name]
