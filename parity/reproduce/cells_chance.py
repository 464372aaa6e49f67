"""Cells of chance, order and state: what is drawn, in which order data come, where a run is taken up again."""

from __future__ import annotations

from dataclasses import replace

from parity.reproduce.cell import (
    DATA,
    KEEP_LINE,
    RANDOM,
    SEED_LINES,
    SHIPPED,
    SORT_LINE,
    STATE,
    WORKER_LINE,
    Cell,
    switched,
)
from parity.reproduce.run import Run


def shipped(base: Run) -> list[Cell]:
    """As the fork's main starts it: the library's threads, workers as configured, no determinism asked for."""
    lab = base.subject == "legacy"
    workers = {"coarse": 3, "detail": 2}.get(base.pipeline, 0) if lab else 2
    shipped = replace(base, seeds=False, threads=0, workers=workers, deterministic=not lab)
    title = "as shipped: nothing of ours seeded, library's threads, loading processes as configured"
    first = Cell(id=SHIPPED, title=title, group=RANDOM, runs=(shipped,))
    more = range(2, 4 if base.pipeline != "detail" else 3)
    return [first, *(replace(first, id=f"{SHIPPED} {n}", title=f"{title}, run {n}", against=SHIPPED) for n in more)]


def random(base: Run) -> list[Cell]:
    """Each generator, and each thing that is drawn, left unseeded in turn."""
    found = [
        switched(
            f"{name} unseeded", f"generator of {name} left unseeded", RANDOM, base, control=SEED_LINES, unseeded=(name,)
        )
        for name in ("python", "numpy", "torch")
    ]
    sites = {"initialisation": "weights the constructors draw", "dropout": "dropout masks"}
    if base.subject == "legacy":
        sites |= {"order": "order of the clips (list and loader)", "window": "which frames of a clip"}
    if base.pipeline == "detail":
        sites = {name: text for name, text in sites.items() if name in ("initialisation", "window")}
    repeats = 1 if base.pipeline == "detail" else 2
    if ":" in base.subject:  # where a subject of your own draws is its own affair: the generators are the causes
        return [replace(cell, cause=cell.title) for cell in found]
    for name, text in sites.items():
        for n in range(repeats):
            draw = f", draw {n + 1}" if repeats > 1 else ""
            id = f"{name}{f' {n + 1}' if n else ''}"
            found.append(
                switched(id, f"{text} unseeded{draw}", RANDOM, base, cause=name, control=SEED_LINES, unseeded=(name,))
            )
    if base.subject == "modern":
        why = "keyed by (seed, epoch, entry): there is no generator to leave unseeded"
        found.append(
            Cell(id="order and window", title="order and choice of frames unseeded", group=RANDOM, why_not=why)
        )
    return found


def data(base: Run) -> list[Cell]:
    """Hash seed, order of files, loading processes."""
    hashed = (*base.environment, ("PYTHONHASHSEED", "1"))
    found = [
        switched(
            "hash seed",
            "another PYTHONHASHSEED",
            DATA,
            base,
            cause="hash seed",
            control="PYTHONHASHSEED=0",
            environment=hashed,
        ),
        switched(
            "listing",
            "folders list their files in another order",
            DATA,
            base,
            cause="directory order",
            control=SORT_LINE,
            listing="reversed",
        ),
        switched(
            "workers 2",
            "2 loading processes instead of none",
            DATA,
            base,
            cause="number of workers",
            control="num_workers fixed",
            workers=2,
        ),
        switched(
            "workers unseeded",
            "2 loading processes that seed themselves",
            DATA,
            base,
            against="workers 2",
            cause="workers' own seeds",
            control=WORKER_LINE,
            workers=2,
            unseeded=("workers",),
        ),
    ]
    if base.pipeline == "coarse":
        found.insert(
            3,
            switched(
                "workers 4",
                "4 loading processes instead of none",
                DATA,
                base,
                cause="number of workers",
                control="num_workers fixed",
                workers=4,
            ),
        )
    return found


def state(base: Run) -> list[Cell]:
    """Interrupted after k updates and continued, for every k."""
    return [
        Cell(
            id=f"resume at {k}",
            title=f"interrupted after {k} update{'s' if k > 1 else ''}, continued in a fresh process",
            group=STATE,
            runs=(replace(base, stop=k), replace(base, stop=k, resumed=True)),
            cause="resume",
            control=KEEP_LINE,
        )
        for k in range(1, base.steps)
    ]
