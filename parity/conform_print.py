"""What `conform` found, on the terminal or in a log."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from parity.conform_report import ConformReport, Outcome, SubjectReport
from parity.conform_summary import common_disagreements, summary_table

_STYLE = {
    Outcome.AGREES: "",
    Outcome.DISAGREES: "bold red",
    Outcome.UNDECIDED: "yellow",
    Outcome.NOT_COMPUTED: "bold yellow",
}
_LOG_WIDTH = 170  # a log has no window whose width would have to be kept
_LONG = 400  # vectors; a longer list would push its own end out of sight
_PLAIN = (Outcome.AGREES, Outcome.INFO)
_SLOWEST = 5


def print_report(report: ConformReport, console: Console | None = None) -> None:
    """List the vectors of every subject, then the groups, what was not covered and the answer in a sentence.

    Of a long recording only what does not simply agree is listed; the JSON report has every vector.
    """
    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, _LOG_WIDTH)
    for part in report.subjects:
        console.print(_table(part))
        if len(part.vectors) > _LONG:
            console.print(summary_table(part))
        if part.problem:
            console.print(f"{part.subject}: {part.problem}", style="bold red", markup=False)
        console.print(_sentence(part, report.folder), markup=False)
        if part.seconds:
            slowest = sorted(part.seconds.items(), key=lambda item: -item[1])[:_SLOWEST]
            took = ", ".join(f"{what} {value:.0f} s" for what, value in slowest)
            console.print(f"{part.subject}: {sum(part.seconds.values()):.0f} s, of which {took}", markup=False)
    if common := common_disagreements(report.subjects):
        console.print(common, markup=False)
    if report.problem:
        console.print(report.problem, style="bold red", markup=False)
    console.print(f"exit code {report.exit_code}: {_MEANING[report.exit_code]}", markup=False)


_MEANING = {0: "every vector asked for was computed and agrees", 1: "disagreement", 2: "cannot tell"}


def _table(part: SubjectReport) -> Table:
    table = Table(title=f"{part.subject} against the recorded vectors", title_justify="left", box=None, pad_edge=False)
    for column in ("vector", "outcome", "metric"):
        table.add_column(column, no_wrap=True)
    for column in ("bound", "figure", "max abs", "rel L2", "bitwise"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("note", overflow="fold")
    listed = part.vectors if len(part.vectors) <= _LONG else [row for row in part.vectors if row.outcome not in _PLAIN]
    for vector in listed:
        figures = [_number(value) for value in (vector.bound, vector.figure, vector.max_abs, vector.rel_l2)]
        same = {True: "yes", False: "no", None: ""}[vector.bitwise]
        cells = (vector.name, vector.outcome.value, vector.metric, *figures, same, vector.note.replace("[", "\\["))
        table.add_row(*cells, style=_STYLE.get(vector.outcome, "dim"))
    return table


def _sentence(part: SubjectReport, folder: str) -> str:
    if not part.asked:
        return f"{part.subject}: {folder} asks nothing of it"
    same = sum(vector.bitwise is True for vector in part.vectors)
    left = {word: part.count(word) for word in Outcome if word not in (Outcome.AGREES,) and part.count(word)}
    rest = "".join(f", {count} {word}" for word, count in left.items())
    return f"{part.subject}: {part.count(Outcome.AGREES)} of {part.asked} agree ({same} bitwise){rest}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2e}" if value else "0"
