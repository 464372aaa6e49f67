"""`python -m parity compare`: two recordings, or a recording and a subject, held against one another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from parity.cli import REPORTS, command_line
from parity.noise import Floors, read_floors, write_floors

Side = Annotated[str, typer.Argument(help="folder of a recording, or legacy[:VARIANT], modern[:VARIANT]")]


def compare(
    reference: Side,
    candidate: Side,
    names: Annotated[Path | None, typer.Option("--map", help="YAML lines `reference name: candidate name`")] = None,
    floors: Annotated[
        Path | None, typer.Option(help="stored noise floors (parity floor, or an earlier --keep)")
    ] = None,
    noise: Annotated[list[str] | None, typer.Option(help="harmless repetition of the reference; give several")] = None,
    keep: Annotated[Path | None, typer.Option(help="store the floors that --noise shows there")] = None,
    partial: Annotated[bool, typer.Option("--partial", help="list what one side lacks, do not judge it")] = False,
    batch: Annotated[str, typer.Option(help="of a subject")] = "carphone_0040",
    steps: Annotated[int, typer.Option(min=1, help="of a subject")] = 1,
    json: Annotated[Path | None, typer.Option(help="also write the results there")] = None,
    out: Annotated[Path, typer.Option(help="folder of the report")] = REPORTS / "compare",
) -> None:
    """Compare two recordings tensor by tensor in order of calls; writes report.html and results.json.

    Exit code 0: same. 1: not the same. 2: cannot tell, for example because tensors differ and no noise floor was given.
    """
    from parity.compare_sides import Terms, compare_recordings, floors_of
    from parity.matching import read_map
    from parity.report.compare import write_compare_page
    from parity.schema import write_results
    from parity.side import load_side
    from parity.terminal import print_results

    console = Console(stderr=True)
    one, other = (load_side(text, batch=batch, steps=steps, console=console) for text in (reference, candidate))
    if moved := [text for text, side in ((reference, one), (candidate, other)) if side.manifest["about"].get("ulp")]:
        raise ValueError(f"{moved[0]} was recorded with ulp=: it is noise for --noise, no side to compare")
    known, sources, count = _stored(floors)
    if noise:
        runs = [load_side(text, batch=batch, steps=steps, console=console) for text in noise]
        known = floors_of(one, runs, known)
        sources.append(f"{len(runs)} repetition{'s' * (len(runs) > 1)} of the reference")
        count += len(runs)
    if keep:
        facts = {"source": "; ".join(sources), "reference": reference, "noise runs": count}
        write_floors(keep, {"chained": known}, facts)
    terms = Terms(
        names=read_map(names) if names else {},
        floors=known,
        floor_source="; ".join(sources) or "none given: what is not the same bytes cannot be judged",
        noise_runs=count,
        partial=partial,
        command=command_line(),
    )
    results, matching = compare_recordings(one, other, terms)
    out.mkdir(parents=True, exist_ok=True)
    for path in (out / "results.json", *([json] if json else [])):
        write_results(results, path)
    write_compare_page(results, matching, out / "report.html")
    print_results(results, Console())
    Console().print(f"random states: {results.scope['random states']}", highlight=False)
    Console().print(f"report: {out / 'report.html'}", soft_wrap=True)
    raise typer.Exit(results.exit_code)


def _stored(floors: Path | None) -> tuple[Floors, list[str], int]:
    """Floors from a file, where they come from, and on how many recordings they rest."""
    if floors is None:
        return {}, [], 0
    stored, evidence = read_floors(floors)
    chained = stored.get("chained") or next(iter(stored.values()), {})
    return dict(chained), [str(floors)], int(str(evidence.get("noise runs", 0)))
