"""Command line of the audit. Exit codes: 0 same, 1 not the same, 2 cannot tell (docs/verdicts.md)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from parity.cli import REPORTS, command_line
from parity.cli_calibrate import calibrate
from parity.cli_compare import compare
from parity.cli_explain import explain
from parity.cli_judge import judge
from parity.cli_ledger import ledger
from parity.cli_pair import pair
from parity.cli_reproduce import reproduce
from parity.cli_selftest import selftest
from parity.cli_steps import steps
from parity.cli_truth import truth
from parity.environment import fix_numerics
from parity.files import ROOT
from parity.schema import Results

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)
BatchOption = Annotated[str, typer.Option(help="carphone_0040, seeded[:PREFIX], or a folder in the lab's layout")]
PipelineOption = Annotated[str, typer.Option(help="coarse, detail or both")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda or cuda:N")]
LegacyRootOption = Annotated[
    Path | None, typer.Option(help="root of the lab's own checkout of either fork, instead of legacy/")
]


@app.command()
def run(
    batch: BatchOption = "carphone_0040",
    pipeline: Annotated[
        str | None, typer.Option(help="coarse, detail or both (default both, or the checkout's)")
    ] = None,
    device: DeviceOption = "cpu",
    seed: Annotated[int, typer.Option(help="seed of every generator before the first step")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="optimizer updates (default 1, with --full 5)")] = None,
    stages: Annotated[str | None, typer.Option(help="comma-separated stages to show and judge (default all)")] = None,
    full: Annotated[bool, typer.Option("--full", help="5 training steps, repeats in fresh processes")] = False,
    threads: Annotated[int, typer.Option(min=1, help="threads inside an operation")] = 1,
    json: Annotated[Path | None, typer.Option(help="also write results.json there")] = None,
    out: Annotated[Path, typer.Option(help="folder of the report")] = REPORTS,
    legacy_root: LegacyRootOption = None,
) -> None:
    """Audit modern against legacy on one batch and write report.html, results.json, results.csv and junit.xml."""
    from parity.checkout import recognised
    from parity.pipelines import BOTH
    from parity.session import Request, audit, publish

    root = legacy_root.expanduser().resolve() if legacy_root else None
    request = Request(
        batch=batch,
        pipeline=recognised(root, pipeline).pipeline if root else pipeline or BOTH,
        legacy_root=str(root or ""),
        device=device,
        seed=seed,
        steps=steps,
        stages=stages,
        full=full,
        threads=threads,
    )
    results = audit(request, command=command_line(), console=Console(stderr=True))
    publish(results, out, json)
    _show(results)
    Console().print(f"report: {out / 'report.html'}", soft_wrap=True)
    raise typer.Exit(results.exit_code)


@app.command()
def conform(
    folder: Annotated[Path, typer.Argument(help="folder of recorded vectors, for example fixtures/conformance/coarse")],
    subject: Annotated[str, typer.Option(help="legacy, modern or both")] = "both",
    json: Annotated[Path | None, typer.Option(help="write all figures there")] = None,
    device: DeviceOption = "cpu",
    allow_undecided: Annotated[
        bool, typer.Option("--allow-undecided", help="exit 0 if all that is open lies within this processor's rounding")
    ] = False,
) -> None:
    """Check recorded vectors of the original code, with the bounds of the folder's coverage.json."""
    from parity.conform import check_folder
    from parity.conform_print import print_report
    from parity.conform_report import as_json
    from parity.environment import fingerprint
    from parity.files import write_atomically

    fix_numerics()
    report = check_folder(folder, subject, device)
    print_report(report)
    if json:
        write_atomically(json, as_json(report, fingerprint()).encode())
    raise typer.Exit(0 if allow_undecided and report.only_undecided else report.exit_code)


@app.command()
def show(results: Annotated[Path, typer.Argument()] = REPORTS / "results.json") -> None:
    """Print stored results as a table; exits with their code."""
    from parity.schema import read_results

    stored = read_results(results)
    _show(stored)
    raise typer.Exit(stored.exit_code)


@app.command()
def report(
    results: Annotated[Path, typer.Argument()] = REPORTS / "results.json",
    out: Annotated[Path, typer.Option("--out", "-o")] = REPORTS / "report.html",
) -> None:
    """Render stored results as one HTML file again."""
    from parity.report import write_report
    from parity.schema import read_results

    write_report(read_results(results), out)
    Console().print(f"report: {out}", soft_wrap=True)


@app.command()
def floor(
    batch: BatchOption = "carphone_0040",
    pipeline: PipelineOption = "both",
    device: DeviceOption = "cpu",
    full: bool = False,
) -> None:
    """Measure every noise floor of a batch and keep them under fixtures/floors/ (minutes; with --full an hour)."""
    from parity.session import Request, measure_floors

    request = Request(batch=batch, pipeline=pipeline, device=device, full=full)
    for path in measure_floors(request, console=Console(stderr=True)):
        Console().print(f"floors: {path.relative_to(ROOT)}", soft_wrap=True)


for _further in (explain, judge, truth, steps, selftest, calibrate, reproduce, ledger, compare, pair):
    app.command()(_further)


def _show(results: Results) -> None:
    from parity.terminal import print_results

    print_results(results, Console())


def main() -> None:
    """Run the command line; bad input ends in one clear line and exit code 2, an interruption in 130."""
    try:
        app()
    except (ValueError, FileNotFoundError) as error:
        Console(stderr=True).print(f"[bold]cannot tell:[/bold] {type(error).__name__}: {error}", soft_wrap=True)
        sys.exit(2)
    except Exception:
        Console(stderr=True).print_exception()
        sys.exit(2)
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted; finished traces are kept, the same command goes on from there")
        sys.exit(130)


if __name__ == "__main__":
    main()
