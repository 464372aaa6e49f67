"""`python -m parity truth`: both sides against the same computation in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from parity.cli import REPORTS, command_line


def truth(
    batch: Annotated[
        str, typer.Option(help="carphone_0040, seeded[:PREFIX], or a folder in the lab's layout")
    ] = "carphone_0040",
    pipeline: Annotated[str, typer.Option(help="coarse, detail or both")] = "both",
    stages: Annotated[str | None, typer.Option(help="comma-separated stages (default all)")] = None,
    inputs: Annotated[
        int, typer.Option(min=1, help="paired inputs; below 20 nothing is called closer or farther")
    ] = 20,
    jobs: Annotated[int, typer.Option(min=1, help="processes of one thread each; one takes 5 to 8 GB")] = 1,
    json: Annotated[Path | None, typer.Option(help="also write truth.json there")] = None,
    out: Annotated[Path, typer.Option(help="folder of truth.json and truth.html")] = REPORTS,
) -> None:
    """Say which side is nearer to float64, stage by stage; writes truth.json and truth.html."""
    from parity.report.truth import write_truth_page
    from parity.terminal_truth import print_truth
    from parity.truth.run import TruthRequest, measure
    from parity.truth.schema import write_truth

    request = TruthRequest(batch=batch, pipeline=pipeline, stages=stages, inputs=inputs, jobs=jobs)
    command = command_line()
    results = measure(request, command=command, console=Console(stderr=True))
    out.mkdir(parents=True, exist_ok=True)
    for path in [out / "truth.json", *([json] if json else [])]:
        write_truth(results, path)
    write_truth_page(results, out / "truth.html")
    print_truth(results, Console())
    Console().print(f"report: {out / 'truth.html'}", soft_wrap=True)
    raise typer.Exit(results.exit_code)
