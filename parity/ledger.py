"""Two lists of random draws, aligned: what one side draws alone, in another order, or from another state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

from parity.draws.record import USES

Draw = Mapping[str, Any]
Kind = Literal["same", "other state", "only first", "only second", "moved"]
_SILENT = ("result", "used", "not tracked", "number", "seed")  # uses that need no sentence of their own


@dataclass(frozen=True)
class Line:
    """One place in the aligned ledger. Draws are dicts of `Draw`'s fields; numbers count from 1 on each side.

    kind: `same` from the same state; `other state`: the same call, but other numbers; `moved`: both sides draw it, at
    different places.
    """

    kind: Kind
    first: Draw | None = None
    second: Draw | None = None
    first_number: int = 0
    second_number: int = 0


def align(first: Sequence[Draw], second: Sequence[Draw]) -> list[Line]:
    """Align two ledgers by what is drawn: step, function, generator, shape or number of values.

    The longest common runs are found first (`difflib.SequenceMatcher`); what is left on both sides is `moved`.
    """
    keys = [_key(draw) for draw in first], [_key(draw) for draw in second]
    matcher, lines = SequenceMatcher(None, *keys, autojunk=False), list[Line]()
    alone: tuple[set[int], set[int]] = set(), set()
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag != "equal":
            alone[0].update(range(a, b))
            alone[1].update(range(c, d))
    moved = _moved(keys, alone)
    for tag, a, b, c, d in matcher.get_opcodes():
        if tag == "equal":
            lines += [_pair(first[a + i], second[c + i], a + i, c + i) for i in range(b - a)]
            continue
        for i in range(a, b):
            lines.append(
                Line("moved" if i in moved[0] else "only first", first[i], None, i + 1, moved[0].get(i, -1) + 1)
            )
        for j in range(c, d):
            if j in moved[1]:
                lines.append(Line("moved", None, second[j], moved[1][j] + 1, j + 1))
            else:
                lines.append(Line("only second", None, second[j], 0, j + 1))
    return lines


def sentences(lines: Sequence[Line], names: tuple[str, str] = ("legacy", "modern")) -> list[str]:
    """What the ledger says, most important first; empty ledgers say so too."""
    counts = sum(line.first is not None for line in lines), sum(line.second is not None for line in lines)
    if counts == (0, 0):
        return ["neither side draws a random number"]
    found = []
    if all(line.kind == "same" for line in lines):
        found.append(f"both draw the same {counts[0]} times, in the same order, from the same states")
    found += _extra(lines, names) + _order(lines, names) + _states(lines, names)
    return found + [text for side in (0, 1) for text in _uses(lines, names, side)]


@dataclass(frozen=True)
class Ledger:
    """The draws of two sides of one run, ready to be shown."""

    title: str
    names: tuple[str, str]
    lines: list[Line]
    sentences: list[str]


def ledger_of(title: str, first: Sequence[Draw], second: Sequence[Draw], names: tuple[str, str]) -> Ledger:
    """Align and put into words."""
    lines = align(first, second)
    return Ledger(title, names, lines, sentences(lines, names))


def ledgers_of(draws: Mapping[str, Sequence[Draw]], names: tuple[str, str] = ("legacy", "modern")) -> list[Ledger]:
    """One ledger for each run of `Results.draws`, whose keys are `legacy (RUN)` and `modern (RUN)`."""
    runs = [key[len(names[0]) + 2 : -1] for key in draws if key.startswith(f"{names[0]} (")]
    pairs = {run: tuple(draws.get(f"{name} ({run})", []) for name in names) for run in runs}
    return [ledger_of(run, first, second, names) for run, (first, second) in pairs.items()]


def describe(draw: Draw) -> str:
    """A draw in a few words: `dropout of 4x512 values, p 0.1 (cpu)`."""
    size = "x".join(map(str, draw["shape"])) if draw.get("shape") else draw.get("values")
    many = "" if size in (None, 0) else f" of {size} value{'s' * (size != 1)}"
    chance = f", p {draw['p']:g}" if draw.get("p") is not None else ""
    return f"{draw['op']}{many}{chance} ({_generator(draw)})"


def _key(draw: Draw) -> tuple[Any, ...]:
    return (
        draw.get("step", 0),
        draw.get("op"),
        _generator(draw),
        tuple(draw.get("shape") or ()),
        draw.get("values"),
        draw.get("p"),
    )


def _generator(draw: Draw) -> str:
    """Own generators are alike, whatever they were seeded with."""
    name = str(draw.get("generator", "?"))
    return "own generator" if name.startswith("own") else name


def _pair(one: Draw, other: Draw, a: int, b: int) -> Line:
    same = one.get("before") == other.get("before")
    return Line("same" if same else "other state", one, other, a + 1, b + 1)


def _moved(
    keys: tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]], alone: tuple[set[int], set[int]]
) -> tuple[dict[int, int], dict[int, int]]:
    """Draws of equal kind left over on both sides, paired in order: index -> index, both ways."""
    free: dict[tuple[Any, ...], list[int]] = {}
    for j in sorted(alone[1]):
        free.setdefault(keys[1][j], []).append(j)
    there = {i: free[keys[0][i]].pop(0) for i in sorted(alone[0]) if free.get(keys[0][i])}
    return there, {j: i for i, j in there.items()}


def _extra(lines: Sequence[Line], names: tuple[str, str]) -> list[str]:
    found = []
    for side, kind in enumerate(("only first", "only second")):
        groups: dict[tuple[str, int], list[int]] = {}
        places: dict[tuple[str, int], str] = {}
        for line in lines:
            if line.kind == kind:
                key = describe(_of(line, side)), _of(line, side).get("step", 0)
                groups.setdefault(key, []).append(_number(line, side))
                places.setdefault(key, _of(line, side).get("where", ""))
        for (text, step), numbers in groups.items():
            more, at = ("one more" if len(numbers) == 1 else f"{len(numbers)} more"), places[text, step]
            where = f"{'first ' if len(numbers) > 1 else ''}as its draw {numbers[0]}{f' at {at}' if at else ''}"
            found.append(f"{names[side]} draws {more} {text} at step {step}, {where}")
    return found


def _order(lines: Sequence[Line], names: tuple[str, str]) -> list[str]:
    moved = [line for line in lines if line.kind == "moved" and line.first is not None]
    if not moved:
        return []
    clean = not any(line.kind.startswith("only") for line in lines)
    head = "same draws, other order" if clean else "other order"
    listed = [
        f"{describe(line.first or {})} is draw {line.first_number} of {names[0]} and {line.second_number} of {names[1]}"
        for line in moved[:3]
    ]
    more = f" and {len(moved) - 3} more" if len(moved) > 3 else ""
    return [f"{head}: {'; '.join(listed)}{more}"]


def _states(lines: Sequence[Line], names: tuple[str, str]) -> list[str]:
    others = [line for line in lines if line.kind == "other state"]
    if not others:
        return []
    where = f"draw {others[0].first_number} of {names[0]} and {others[0].second_number} of {names[1]}"
    return [
        f"{len(others)} calls of both sides get other numbers, since their generator stands elsewhere; first {where}"
    ]


def _uses(lines: Sequence[Line], names: tuple[str, str], side: int) -> list[str]:
    found: dict[str, list[Draw]] = {}
    for line in lines:
        draw = _of(line, side)
        if draw is not None and draw.get("use", "used") not in _SILENT:
            found.setdefault(draw["use"], []).append(draw)
    texts = []
    for use, draws in found.items():
        kinds = list(dict.fromkeys(f"{describe(draw)} at {draw.get('where', '?')}" for draw in draws))
        more = f" and {len(kinds) - 4} more kinds" if len(kinds) > 4 else ""
        count = f"{len(draws)} draw{'s' * (len(draws) != 1)}"
        texts.append(f"{names[side]}: {count} {USES[use]}: {'; '.join(kinds[:4])}{more}")
    return texts


def _of(line: Line, side: int) -> Any:
    return (line.first, line.second)[side]


def _number(line: Line, side: int) -> int:
    return (line.first_number, line.second_number)[side]
