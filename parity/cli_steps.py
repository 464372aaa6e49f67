"""`python -m parity steps`: both subjects over many training steps, held against the growth of noise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from parity.cli import REPORTS
from parity.environment import fix_numerics

DEFAULT_STEPS = {"coarse": 50, "detail": 5}  # about 10 minutes on two cores each
_Count = Annotated[int | None, typer.Option(min=1, help="training steps (default 50 coarse, 5 detail)")]
_Raster = Annotated[int, typer.Option(min=8, help="side of the coarse raster, a divisor of 224; the mesh stays whole")]


def steps(
    pipeline: Annotated[str, typer.Option(help="coarse, detail or both")] = "coarse",
    steps: _Count = None,
    raster: _Raster = 56,
    draws: Annotated[int, typer.Option(min=2, help="noise runs: one moved weight, the rest moved pixels")] = 3,
    batch: Annotated[str, typer.Option(help="as for `run`")] = "carphone_0040",
    processes: Annotated[int, typer.Option(min=1, max=2, help="1 takes half the memory and twice the time")] = 2,
    seed: Annotated[int, typer.Option(help="seed of every generator")] = 0,
    json: Annotated[Path | None, typer.Option(help="also write all figures there")] = None,
    out: Annotated[Path, typer.Option(help="folder of steps.html and steps.json")] = REPORTS,
) -> None:
    """Train both subjects side by side and tell chaos from a bug (10 minutes; interrupted, it goes on where it was)."""
    from parity.batch import SIZE
    from parity.pipelines import choose
    from parity.session import usable_batch
    from parity.steps.report import print_steps, write_steps
    from parity.steps.session import compare_steps
    from parity.verdict import exit_code
    from parity.worker import RunSpec

    if SIZE % raster:
        raise ValueError(f"--raster {raster}: must divide {SIZE}, for example 28, 56 or 112")
    fix_numerics()
    name, skipped = usable_batch(batch)
    reports = [
        compare_steps(
            RunSpec(batch=name, pipeline=part.name, seed=seed),
            steps=steps or DEFAULT_STEPS[part.name],
            draws=draws,
            pixels=raster,
            console=Console(stderr=True),
            processes=processes,
        )
        for part in choose(pipeline)
    ]
    write_steps(reports, out, json)
    print_steps(reports, Console())
    for part in skipped:
        Console().print(f"{part['what']}: {part['why']}", soft_wrap=True)
    Console().print(f"report: {out / 'steps.html'}", soft_wrap=True)
    raise typer.Exit(exit_code(report.judgement.verdict for report in reports))
