"""`python -m parity pair ADAPTER.py`: the audit of a pair that this repository has never seen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from parity.cli import REPORTS, command_line


def pair(
    adapter: Annotated[Path, typer.Argument(help="Python file that builds both sides, see docs/your_own_pair.md")],
    seed: Annotated[int, typer.Option(help="seed of inputs, models and the step")] = 0,
    draws: Annotated[int, typer.Option(min=0, help="one-ULP perturbations that measure the noise floor")] = 12,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="threads inside an operation")] = 1,
    json: Annotated[Path | None, typer.Option(help="also write results.json there")] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the report (default reports/pair-NAME)")] = None,
) -> None:
    """Audit your own pair of models, operation by operation, and write report.html, results.json and junit.xml."""
    from parity.environment import isolated_numerics
    from parity.pair.adapter import audit_adapter, load_adapter
    from parity.pair.verdicts import judged
    from parity.session import check_device, progress, publish
    from parity.terminal import print_results

    check_device(device)
    timings: dict[str, float] = {}
    loaded = load_adapter(adapter)
    with isolated_numerics(threads), progress(Console(stderr=True), timings) as say:
        with say(f"{loaded.name}: reference and candidate in step, {draws} draws of noise"):
            audit = audit_adapter(loaded, seed=seed, draws=draws, device=device)
        command = command_line()
        scope = {"batch": str(adapter), "device": device, "seed": seed, "weights": loaded.weights_from}
        results = judged(audit, loaded.name, command=command, scope=scope, timings=timings)
    folder = out or REPORTS / f"pair-{loaded.name}"
    publish(results, folder, json)
    print_results(results, Console())
    Console().print(f"report: {folder / 'report.html'}", soft_wrap=True)
    raise typer.Exit(results.exit_code)
