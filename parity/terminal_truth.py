"""A truth run in the terminal."""

from __future__ import annotations

from statistics import median

from rich.console import Console
from rich.table import Table

from parity.report.format import figure, times
from parity.truth.schema import TruthResults, TruthRow, Word

_STYLE = {Word.FARTHER: "bold yellow", Word.OTHER_FORMULA: "bold red", Word.ERROR: "bold red"}


def print_truth(results: TruthResults, console: Console) -> None:
    """The table of all quantities, what was not exercised, and the answer."""
    table = Table(box=None)
    for name in ("stage", "quantity", "e legacy", "e modern", "R", "p (Holm)", "inputs", "word"):
        table.add_column(name, no_wrap=True)
    for row in results.rows:
        table.add_row(*_cells(row), style=_STYLE.get(row.word, ""))
    console.print(table)
    for item in results.not_exercised:
        console.print(f"[dim]not exercised: {item['what']}: {item['why']}[/dim]", soft_wrap=True)
    console.print(f"\n[bold]{results.answer}[/bold] exit code {results.exit_code}", soft_wrap=True)


def _cells(row: TruthRow) -> tuple[str, ...]:
    errors = [figure(median(side)) if side else "" for side in (row.legacy, row.modern)]
    return (
        f"{row.pipeline} {row.stage}",
        row.quantity,
        *errors,
        times(row.ratio),
        "" if row.p is None else figure(row.p),
        str(row.inputs),
        row.word,
    )
