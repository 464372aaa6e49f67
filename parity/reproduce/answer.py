"""The answer in words. Every clause is built from cells that ran; what did not run is not spoken of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from parity.reproduce.judge import Judged
from parity.reproduce.ranking import DRAWN, Share, chance_range, leading, shares
from parity.reproduce.words import RAN, Word, worst
from parity.wording import enumerated

QUANTITY_NAMES = {
    "codes": "codes",
    "uv_z": "uv_z",
    "loss": "total loss",
    "gradients": "gradients",
    "weights": "weights",
}
_SAME = {
    Word.BITWISE: "bitwise the same",
    Word.NOISE: "the same within the noise floor",
    Word.MOVED: "not the same",
}


def answer(
    name: str, cells: Sequence[Judged], ranked: list[Share], explained: Mapping[str, float] | None = None
) -> str:
    """A few sentences for one subject and pipeline.

    Args:
        name: of subject and pipeline.
        cells: all that was judged.
        ranked: shares of the causes.
        explained: quantity -> variance of the single drawn causes over the one between runs as shipped; where it is
            less than so few runs give by chance, the ranking has missed something and the sentence says so.
    """
    parts = [f"{name} as shipped: {_shipped(cells)}."]
    repeats = [cell for cell in cells if cell.shipped_again]
    same = bool(ranked) and only_noise(cells)
    if same:
        causes = enumerated([share.cause for share in ranked])
        parts.append(f"All that varied, measured one by one, stayed within the noise floor ({causes}): no ranking.")
    else:
        stays = bool(repeats) and worst(cell.word for cell in repeats) is Word.BITWISE
        parts += _would_move(ranked) if stays else _moves(cells, ranked)
    low, _ = chance_range(cells)
    if ranked and not same and (missed := {name: part for name, part in (explained or {}).items() if part < low}):
        least = min(missed, key=missed.__getitem__)
        parts.append(
            f"They do not explain the runs as shipped: in {QUANTITY_NAMES[least]} the drawn causes add up to only "
            f"{_percent(missed[least])} of the variance seen there."
        )
    if text := _seeded(cells):
        parts.append(text)
    return " ".join(parts)


def only_noise(cells: Iterable[Judged]) -> bool:
    """Whether no cause moved anything beyond the noise floor; the shares of such causes are shares of rounding."""
    return Word.MOVED not in {cell.word for cell in cells if cell.cause}


def recipe(cells: Iterable[Judged], ranked: Iterable[Share]) -> list[str]:
    """The lines that take away what was seen to vary, largest cause first, each once."""
    moved = [cell for cell in cells if cell.cause and cell.control and cell.word in (Word.NOISE, Word.MOVED)]
    order = {share.cause: place for place, share in enumerate(ranked)}
    moved.sort(key=lambda cell: order.get(cell.cause, len(order)))
    return list(dict.fromkeys(cell.control for cell in moved))


def _shipped(cells: Sequence[Judged]) -> str:
    repeats = [cell for cell in cells if cell.shipped_again]
    if not repeats:
        return "not measured"
    runs = f"{len(repeats) + 1} fresh processes on this machine"
    found = worst(cell.word for cell in repeats)
    if found is Word.BITWISE:
        return f"yes, {runs} gave the same bytes"
    if found is Word.NOISE:
        return f"only within the noise floor, in {runs}"
    return f"no, {runs} gave different results"


def _moves(cells: Iterable[Judged], ranked: Sequence[Share]) -> list[str]:
    """Who makes the variation of runs as shipped: what is drawn anew in each; and what else moves if it is switched."""
    drawn = shares(cell for cell in cells if cell.cause in DRAWN)
    others = [share for share in ranked if share.cause not in DRAWN and share.share >= _WORTH_NAMING]
    if not drawn:
        return _would_move(ranked)
    found = [f"{_account(drawn)} of the variation, measured one by one: {_named(drawn)}."]
    if others:
        found.append(f"What a run as shipped does not change moves it too, if switched: {_shared(others)}.")
    return found


def _would_move(ranked: Sequence[Share]) -> list[str]:
    """As shipped nothing varies, so this is what would make it vary if it were switched."""
    return [f"{_account(ranked)} of what would move it, switched one by one: {_named(ranked)}."] if ranked else []


def _account(ranked: Sequence[Share]) -> str:
    chosen = leading(ranked)
    count = "One cause accounts" if len(chosen) == 1 else f"{_COUNTS.get(len(chosen), len(chosen))} causes account"
    return f"{count} for {_percent(sum(share.share for share in chosen))}"


def _named(ranked: Sequence[Share]) -> str:
    """The causes that make nearly all, and small drawn ones."""
    chosen = leading(ranked)
    rest = [share for share in ranked if share not in chosen and share.cause in DRAWN]
    also = f"; {_shared(rest)} {'moves' if len(rest) == 1 else 'move'} it too" if rest else ""
    return f"{_shared(chosen)}{also}"


def _shared(found: Iterable[Share]) -> str:
    return enumerated([f"{share.cause} ({_percent(share.share)})" for share in found])


_WORTH_NAMING = 0.01
_COUNTS = {2: "Two", 3: "Three", 4: "Four", 5: "Five", 6: "Six", 7: "Seven", 8: "Eight"}


def _seeded(cells: Sequence[Judged]) -> str:
    """What holds once everything is seeded: repeats first, then each axis that was tried."""
    repeats = [cell for cell in cells if cell.id.startswith("nothing") and cell.word in RAN]
    if not repeats:
        return ""
    found = worst(cell.word for cell in repeats)
    assert found is not None
    clauses = [f"{_SAME[found]} in {len(repeats) + 1} fresh processes on this machine"]
    for prefix, text in _AXES.items():
        tried = [cell for cell in cells if cell.id.startswith(prefix) and cell.word in RAN]
        if tried:
            word = worst(cell.word for cell in tried)
            assert word is not None
            clauses.append(f"{text.format(_values(tried, prefix))} {_SAME[word]}{_distance(tried, word)}")
    return f"Seeded: {'; '.join(clauses)}."


_AXES = {
    "threads ": "with {} threads",
    "onednn avx2": "on a processor without AVX-512 (oneDNN limited)",
    "workers ": "with {} loading processes",
    "resume ": "interrupted and continued",
    "beside": "a clip in company",
}


def _values(cells: Iterable[Judged], prefix: str) -> str:
    found = [cell.id.removeprefix(prefix) for cell in cells]
    return enumerated([value for value in found if value.isdigit()], "or")


def _distance(cells: Iterable[Judged], word: Word) -> str:
    """How far at most, for what is not bitwise."""
    far = max((value for cell in cells for value in cell.effects.values()), default=0.0)
    return f" (relative distance up to {far:.1e})" if word is not Word.BITWISE and far else ""


def _percent(share: float) -> str:
    """Rounded down where rounding up would claim all."""
    text = f"{100 * share:.0f} %"
    return "over 99 %" if text == "100 %" and share < 1 else text if share >= 0.01 else "under 1 %"
