"""`python -m parity reproduce`: will the same code reproduce, cause by cause?"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from parity.cli import REPORTS, command_line


def reproduce(
    subject: Annotated[str, typer.Option(help="legacy, modern, both, or module:function of your own")] = "both",
    pipeline: Annotated[str, typer.Option(help="coarse, detail or both")] = "both",
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N")] = "cpu",
    cells: Annotated[
        str | None, typer.Option(help="comma-separated ids of cells (default all); help lists them")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="updates (default 2)")] = None,
    raster: Annotated[int, typer.Option(help="rows = columns of the pictures, a multiple of 32 (full: 224)")] = 64,
    jobs: Annotated[int, typer.Option(min=1, help="cells at a time")] = 2,
    resume: Annotated[bool, typer.Option("--resume", help="take up finished cells of the same sources")] = False,
    cluster: Annotated[
        str | None, typer.Option(help="address of a Dask scheduler that the cells are spread over")
    ] = None,
    limit: Annotated[
        float, typer.Option(min=0, help="minutes after which a run that has no result is given up; 0: never")
    ] = 60,
    json: Annotated[Path | None, typer.Option(help="also write reproduce.json there")] = None,
    out: Annotated[Path, typer.Option(help="folder of the page")] = REPORTS,
) -> None:
    """Switch each cause of variation alone, in fresh processes, and say what moves, where and by how much."""
    from parity.reproduce.cluster import connected
    from parity.reproduce.engine import Engine, Processes
    from parity.reproduce.session import Request, publish
    from parity.reproduce.session import reproduce as run
    from parity.reproduce.terminal import print_cells, print_matrix

    request = Request(subject=subject, pipeline=pipeline, device=device, cells=cells, steps=steps, raster=raster)
    if cells == "help":
        print_cells(request, Console())
        raise typer.Exit
    seconds = 60 * limit or None
    perform = connected(cluster, seconds) if cluster else Processes(seconds)
    console = Console(stderr=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # or a job's time limit would leave its processes behind
    try:
        engine = Engine(perform=perform, jobs=jobs, resume=resume)
        matrix = run(request, engine, command=command_line(), console=console)
    except KeyboardInterrupt:
        console.print("interrupted; finished cells are kept, and the same command with --resume goes on")
        raise typer.Exit(130) from None
    publish(matrix, out, json)
    print_matrix(matrix, Console())
    Console().print(f"page: {out / 'reproduce.html'}", soft_wrap=True)
    raise typer.Exit(matrix.exit_code)
