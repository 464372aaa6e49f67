"""`python -m parity ledger`: every random draw of a training step and of fetching its batch, legacy beside modern."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from parity.ledger import Ledger, describe


def ledger(
    pipeline: Annotated[str, typer.Option(help="coarse, detail or both")] = "both",
    batch: Annotated[str, typer.Option(help="as for run")] = "carphone_0040",
    steps: Annotated[int, typer.Option(min=1, help="optimizer updates")] = 1,
    seed: Annotated[int, typer.Option(help="of every generator before the first step")] = 0,
    data: Annotated[bool, typer.Option(help="also what fetching batches draws")] = True,
    step: Annotated[bool, typer.Option(help="also what the step draws (minutes where no trace is kept)")] = True,
    lines: Annotated[bool, typer.Option("--lines", help="print every draw, not only what is said of them")] = False,
    json: Annotated[Path | None, typer.Option(help="write both ledgers there")] = None,
) -> None:
    """Show which generator each draw comes from, and which draws the sides do not share or use.

    Exit code 0: both draw the same, or differ exactly as registered. 1: not the same. What fetching a batch draws is
    shown and not judged: modern chooses by key on purpose.
    """
    from parity.ledger_runs import data_ledgers, step_ledgers, write_ledgers
    from parity.verdict import exit_code

    console = Console()
    ledgers, words = ([], []) if not step else step_ledgers(pipeline, batch, steps, seed, Console(stderr=True))
    ledgers += data_ledgers(pipeline, seed) if data else []
    for part in ledgers:
        _print(part, console, lines)
    if json:
        write_ledgers(json, ledgers)
    raise typer.Exit(exit_code(words) if words else 0)


def _print(ledger: Ledger, console: Console, lines: bool) -> None:
    console.print(f"\n[bold]{ledger.title}[/bold]", highlight=False)
    for text in ledger.sentences:
        console.print(f"  {text}", highlight=False, markup=False, soft_wrap=True)
    if not lines:
        return
    table = Table("", "#", ledger.names[0], "#", ledger.names[1], "state before", "use", box=None)
    for line in ledger.lines:
        known = line.first or line.second or {}
        sides = [f"{describe(draw)}\n{draw.get('where')}" if draw else "" for draw in (line.first, line.second)]
        numbers = [str(number or "") for number in (line.first_number, line.second_number)]
        table.add_row(line.kind, numbers[0], sides[0], numbers[1], sides[1], known.get("before"), known.get("use"))
    console.print(table)
