"""`python -m parity judge`: saved results judged again, without running anything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def judge(
    results: Annotated[Path, typer.Argument(help="results.json of an audit")],
    c: Annotated[float | None, typer.Option("--c", help="bound = c x noise floor (default: as in the results)")] = None,
    floors: Annotated[Path | None, typer.Option(help="noise floors to use, as `parity floor` writes them")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="also write the new results.json there")] = None,
) -> None:
    """Judge stored results again with another factor or other noise floors; exits with the new code."""
    from parity.noise import read_floors
    from parity.rejudge import judged_again
    from parity.schema import read_results, write_results
    from parity.terminal import print_results

    stored = read_results(results)
    given, facts = read_floors(floors) if floors else (None, {})
    run = facts.get("run")
    if floors and not isinstance(run, dict):
        raise ValueError(f"{floors}: does not say which run it was measured on; measure it again (parity floor)")
    anew = judged_again(stored, stored.floor["c"] if c is None else c, given, run if isinstance(run, dict) else None)
    changed = sum(old.verdict is not new.verdict for old, new in zip(stored.rows, anew.rows, strict=True))
    print_results(anew, Console())
    Console().print(f"{changed} of {len(anew.rows)} rows have another verdict than in {results}", soft_wrap=True)
    if out:
        write_results(anew, out)
    raise typer.Exit(anew.exit_code)
