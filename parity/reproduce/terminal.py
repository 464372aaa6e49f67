"""A matrix as tables in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from parity.report.format import figure
from parity.reproduce.answer import only_noise
from parity.reproduce.cells import cells
from parity.reproduce.results import Matrix
from parity.reproduce.session import Request
from parity.reproduce.words import RAN, Word

_STYLES = {"bitwise": "blue", "within noise": "cyan", "not the same": "bold yellow", "error": "bold red"}


def print_cells(request: Request, console: Console) -> None:
    """Ids and titles of the cells that a request may name.

    Raises:
        ValueError: an unknown subject, pipeline or device.
    """
    table = Table(box=None, pad_edge=False)
    table.add_column("id", no_wrap=True)
    table.add_column("switched")
    for id, title in {cell.id: cell.title for run in request.runs() for cell in cells(run) if cell.runs}.items():
        table.add_row(id, title)
    console.print(table)


def print_matrix(matrix: Matrix, console: Console) -> None:
    """One table of cells and one of shares for each subject and pipeline; what did not run is left to the page."""
    for part in matrix.subjects:
        table = Table(title=f"{part.subject} {part.pipeline}", title_justify="left", box=None, pad_edge=False)
        for name in ("cause", "result", "begins at", "codes", "loss", "weights"):
            table.add_column(name)
        for cell in part.cells:
            if cell.word is not Word.NOT_RUN:
                at = cell.first if cell.word in RAN else cell.reason[:80]
                effects = [figure(cell.effects.get(name)) for name in ("codes", "loss", "weights")]
                table.add_row(cell.title, f"[{_STYLES.get(cell.word, 'dim')}]{cell.word}[/]", at, *effects)
        console.print(table)
        for share in [] if only_noise(part.cells) else part.shares[:8]:
            console.print(f"  {100 * share.share:5.1f} %  {share.cause}", highlight=False)
        console.print(part.answer, soft_wrap=True, highlight=False)
        console.print()
