"""The matrix: which causes there are, and how each is switched alone (determinism catalogue, docs/reproduce.md)."""

from __future__ import annotations

from dataclasses import replace

from parity.reproduce import cells_batch, cells_chance, cells_machine
from parity.reproduce.cell import BASELINE, FLOOR, RANDOM, Cell, switched
from parity.reproduce.run import Run

DRAWS = 5  # one-ULP runs that measure a noise floor


def cells(base: Run) -> list[Cell]:
    """All cells of one subject and pipeline, those of its noise floor among them."""
    found = [
        Cell(id=BASELINE, title="baseline: everything seeded, one thread", group=RANDOM, runs=(base,), against=""),
        Cell(id="nothing", title="nothing: a second fresh process", group=RANDOM, runs=(base,)),
        Cell(id="nothing again", title="nothing: a third fresh process", group=RANDOM, runs=(base,)),
        *cells_chance.shipped(base),
        *cells_chance.random(base),
        *cells_chance.data(base),
        *cells_machine.kernels(base),
        *cells_machine.update(base),
        *cells_batch.batch(base),
        *cells_chance.state(base),
        *cells_machine.elsewhere(base),
    ]
    if base.pipeline == "detail":
        found = [cell for cell in found if cell.id not in _NOT_IN_DETAIL]
    noise = (
        switched(f"ulp {n}", f"pixels and weights moved by one ULP, draw {n}", FLOOR, base, ulp=n)
        for n in range(1, DRAWS + 1)
    )
    return [_logging(cell) for cell in [*found, *noise]]


def _logging(cell: Cell) -> Cell:
    """The cells of the invariance map note every operation."""
    runs = tuple(replace(run, operations=True) for run in cell.runs) if cell.id in _OBSERVED else cell.runs
    return replace(cell, runs=runs)


# A step of the detail stage takes long: what the coarse stage shows as well is left to it.
_NOT_IN_DETAIL = frozenset({"nothing again", "race again"})
_OBSERVED = frozenset({BASELINE, "threads 2", "threads 4", "channels last"})  # "race" reads the log of "threads 2"
