"""`python -m parity selftest`: plant bugs and harmless changes, and see whether the audit tells them apart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from parity.cli import REPORTS, command_line
from parity.pipelines import BOTH, choose


def selftest(
    pipeline: Annotated[str, typer.Option(help="coarse, detail or both")] = BOTH,
    only: Annotated[str, typer.Option(help="comma-separated ids of bugs and harmless variants")] = "",
    seeds: Annotated[str, typer.Option(help="comma-separated; each but 0 has weights and generators of its own")] = "0",
    full: Annotated[
        bool, typer.Option("--full", help="replay all stages and run the step for each bug, also after the first drift")
    ] = False,
    measure: Annotated[bool, typer.Option("--measure", help="measure missing noise floors (up to an hour)")] = False,
    json: Annotated[Path | None, typer.Option(help="write all figures there")] = None,
    out: Annotated[Path, typer.Option(help="folder of the page")] = REPORTS,
) -> None:
    """Plant bugs and harmless changes in copies of modern; the audit must catch, place and tell them apart."""
    from parity.selftest.page import print_selftest, publish
    from parity.selftest.session import Wanted
    from parity.selftest.session import selftest as run

    choose(pipeline)
    wanted = Wanted(
        pipeline=pipeline,
        only=frozenset(name.strip() for name in only.split(",") if name.strip()),
        seeds=tuple(dict.fromkeys(_number(seed) for seed in seeds.split(","))),
        full=full,
    )
    command = command_line()
    result = run(wanted, command=command, console=Console(stderr=True), measuring=measure)
    publish(result, out, json)
    print_selftest(result, Console())
    Console().print(f"page: {out / 'selftest.html'}", soft_wrap=True)
    raise typer.Exit(result.exit_code)


def _number(text: str) -> int:
    if not text.strip().isdigit():
        raise ValueError(f"seed {text!r} is no whole number; give for example --seeds 0,1,2")
    return int(text)
