"""A matrix as one HTML file, in the frame, style and policy that all our pages share."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from parity.files import write_atomically
from parity.report.format import figure
from parity.report.page import render_page
from parity.reproduce.answer import QUANTITY_NAMES
from parity.reproduce.judge import Judged
from parity.reproduce.ranking import RANKED, chance_range
from parity.reproduce.results import Matrix
from parity.reproduce.words import RAN, Word
from parity.verdict import Verdict

# The families of colour that the report has for its verdicts; the word itself is always written out.
LOOKS = {
    Word.BITWISE: Verdict.IDENTICAL,
    Word.NOISE: Verdict.ROUNDING,
    Word.MOVED: Verdict.DRIFT,
    Word.REFUSED: Verdict.UNSTABLE,
    Word.NOT_EXERCISED: Verdict.NOT_EXERCISED,
    Word.NOT_RUN: Verdict.MISSING,
    Word.ERROR: Verdict.ERROR,
}


def render(matrix: Matrix) -> str:
    """The whole page as text."""
    cells = [cell for part in matrix.subjects for cell in part.cells]
    return render_page(
        "reproduce.html.j2",
        m=matrix,
        looks=LOOKS,
        counts={
            LOOKS[word]: sum(cell.word is word for cell in cells) for word in Word if any(c.word is word for c in cells)
        },
        words={LOOKS[word].value: word.value for word in Word},
        groups=groups,
        ran=RAN,
        quantities=RANKED,
        names=QUANTITY_NAMES,
        chance=chance_range,
        text=figure,
        not_run=[
            (f"{part.subject} {part.pipeline}", cell)
            for part in matrix.subjects
            for cell in part.cells
            if cell.word is Word.NOT_RUN
        ],
    )


def groups(cells: list[Judged]) -> list[tuple[str, list[Judged]]]:
    """The cells that were tried, by group, in order."""
    tried = [cell for cell in cells if cell.word is not Word.NOT_RUN]
    order = list(dict.fromkeys(cell.group for cell in tried))
    tried.sort(key=lambda cell: order.index(cell.group))
    return [(name, list(part)) for name, part in groupby(tried, key=lambda cell: cell.group)]


def write_page(matrix: Matrix, path: Path) -> None:
    """Render and write atomically."""
    write_atomically(path, render(matrix).encode())
