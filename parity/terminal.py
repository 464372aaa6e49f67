"""Results in the terminal: the answer, one line per stage, the first divergence. Plain text when not a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from parity.held import decided, over_floor
from parity.report.format import NONE, SYMBOLS, apart, figure, times, tone
from parity.report.tables import describe_scope, is_observer, side_checks, tally, worst_by_stage
from parity.schema import Results, Row
from parity.verdict import Verdict

_STYLES = {"same": "blue", "differs": "bold dark_orange", "unclear": "bright_black"}
_SAID = ("the same", "not the same", "cannot tell")
# For consoles that cannot show more than ASCII: symbols, dash, middle dot, infinity, ellipsis.
_ASCII = str.maketrans("\u2248\u25c6\u2260\u00b1\u25cb\u2013\u00b7\u221e\u2026", "~*#+o-,^~")


def print_results(results: Results, console: Console) -> None:
    """Print what the report shows first; `console` decides about colour and width (it honours NO_COLOR)."""
    if console.encoding.lower().startswith("utf"):
        _print(results, console)
        return
    with console.capture() as captured:
        _print(results, console)
    console.file.write(captured.get().translate(_ASCII).encode(console.encoding, "replace").decode(console.encoding))


def _print(results: Results, console: Console) -> None:
    console.print()
    console.print(_stage_table(results))
    _print_side_checks(results, console)
    _print_notes(results, console)
    if results.divergence:
        _print_divergence(results.divergence, results.floor["c"], console)
        for line in results.culprit.lines if results.culprit else [results.culprit_note]:
            console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
    console.print()
    console.print(Text(results.answer, style="bold"), highlight=False)
    outcome = f"  exit code {results.exit_code}: {_SAID[results.exit_code]}"
    console.print(_word(results.verdict).append(outcome, style="default"), highlight=False)


def _word(verdict: Verdict | None) -> Text:
    if verdict is None:
        return Text("not run", style="bright_black")
    return Text(f"{SYMBOLS[verdict]} {verdict}", style=_STYLES[tone(verdict)])


def _stage_table(results: Results) -> Table:
    table = Table(title=describe_scope(results.scope), title_justify="left", title_style="bright_black")
    table.box, table.pad_edge = None, False
    alone = any(stage.isolated for stage in results.stages)  # two recordings have no isolated runs
    table.add_column("stage", no_wrap=True)
    for name in [*(["isolated"] if alone else []), "chained"]:
        table.add_column(name, no_wrap=True, min_width=11)  # a word must stay readable in a narrow window
    table.add_column("worst tensor", overflow="fold", ratio=1)
    for name in ("rel. L2", "x floor"):
        table.add_column(name, justify="right", no_wrap=True, min_width=len(name))
    worst = worst_by_stage(results)
    several = len({stage.pipeline for stage in results.stages}) > 1
    for stage in results.stages:
        isolated, chained = (worst.get((stage.pipeline, stage.name, mode)) for mode in ("isolated", "chained"))
        row = isolated if _is_culprit(stage.isolated) else chained or isolated
        name = f"{stage.pipeline}/{stage.name}" if several else stage.name
        words = [_word(stage.isolated)] if alone else []
        table.add_row(name, *words, _word(stage.chained), *_figures(row))
    return table


def _is_culprit(isolated: Verdict | None) -> bool:
    return isolated is not None and tone(isolated) == "differs"


def _figures(row: Row | None) -> tuple[str, str, str]:
    if row is None or row.bitwise:  # where nothing differs there is no worst
        return (NONE,) * 3
    return (f"{row.mode}: {row.tensor}", figure(row.rel_l2), times(over_floor(row)))


def _print_side_checks(results: Results, console: Console) -> None:
    for mode, counts in side_checks(results).items():
        line = Text(f"{mode}: ")
        for verdict, count in counts.items():
            line.append(_word(verdict)).append(f" {count}  ")
        console.print(line, highlight=False)
    if counts := tally(finding.verdict for finding in results.structure if is_observer(finding)):
        line = Text("taps on against off: ")
        for verdict, count in counts.items():
            line.append(_word(verdict)).append(f" {count}  ")
        console.print(line, highlight=False)


def _print_notes(results: Results, console: Console) -> None:
    rows = Text(f"{len(results.rows)} rows: ")
    for verdict, count in tally(row.verdict for row in results.rows).items():
        rows.append(_word(verdict)).append(f" {count}  ")
    console.print(rows, highlight=False)
    for finding in results.structure:
        if finding.verdict is not Verdict.IDENTICAL:
            line = Text(f"structure, {finding.name}: ").append(_word(finding.verdict)).append(f" {finding.detail}")
            console.print(line, highlight=False)
    for item in results.known:
        console.print(Text(f"known {item.id}: ").append(_word(item.verdict)).append(f" {item.reason}"), highlight=False)
    for skipped in results.skipped:
        console.print(Text(f"skipped {skipped['what']}: {skipped['why']}", style="bright_black"), highlight=False)


def _print_divergence(row: Row, c: float, console: Console) -> None:
    console.print()
    console.print(Text("first divergence  ", style="bold").append(row.id, style=_STYLES["differs"]), highlight=False)
    name, found, bound = decided(row, c)
    console.print(f"  {row.reason}; {name} {figure(found)}, allowed {figure(bound)}", highlight=False)
    if row.worst_index is not None:
        values = " became ".join(apart(row.worst_reference, row.worst_candidate))
        console.print(f"  worst element {row.worst_index}: {values}", highlight=False, markup=False)
    console.print(f"  repeat: {row.repeat}", highlight=False, markup=False, soft_wrap=True)
