"""`python -m parity explain`: what the last audit found at one stage, down to the operation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from parity.cli import REPORTS


def explain(
    stage: Annotated[
        str | None, typer.Argument(help="stage name, or PIPELINE/STAGE; by default that of the first divergence")
    ] = None,
    results: Annotated[Path, typer.Option(help="stored results")] = REPORTS / "results.json",
    replay: Annotated[bool, typer.Option(help="replay the stage on both sides to find the operation")] = True,
) -> None:
    """Say in a few lines what the last audit found at one stage, and replay it to name the operation."""
    from parity.explain import explain_stage
    from parity.explain_replay import operation_lines
    from parity.schema import read_results

    stored, out = read_results(results), Console()
    if stage is None:
        first = stored.divergence
        if first is None:
            out.print("nothing diverges; name a stage to be told about it")
            return
        stage = f"{first.pipeline}/{first.stage}"
    out.print(explain_stage(stored, stage), markup=False, soft_wrap=True, highlight=False)
    for line in operation_lines(stored, stage, Console(stderr=True)) if replay else ():
        out.print(f"  {line}", markup=False, soft_wrap=True, highlight=False)
