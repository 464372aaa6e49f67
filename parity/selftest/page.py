"""A self-test as JSON, as one HTML page, and in a few lines on the terminal."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

from parity.decode import decode
from parity.files import write_atomically
from parity.report.page import render_page
from parity.schema import plain
from parity.selftest.verdicts import DETECTORS, BugResult, Fate, HarmlessResult, SelfTest, Tail, alarm_rate, all_of
from parity.verdict import Verdict

# How a fate looks: the tile of the verdict that would mean the same for a comparison.
TILES = {
    Fate.PLACED: Verdict.IDENTICAL,
    Fate.QUIET: Verdict.IDENTICAL,
    Fate.BELOW: Verdict.NOT_EXERCISED,
    Fate.NOT_EXERCISED: Verdict.NOT_EXERCISED,
}
CHART_DECADES = (-2, 9)  # noise floors shown, log10; what lies outside sits at the edge


def publish(result: SelfTest, out: Path, file: Path | None = None) -> None:
    """Write selftest.html and selftest.json into `out`, and the figures to `file` too, each atomically."""
    out.mkdir(parents=True, exist_ok=True)
    document = json.dumps(plain(result), allow_nan=False, indent=1).encode()
    for place in (out / "selftest.json", *([file] if file else [])):
        write_atomically(place, document)
    write_atomically(out / "selftest.html", render_selftest(result).encode())


def read_selftest(path: Path) -> SelfTest:
    """What `publish` stored.

    Raises:
        ValueError: not the JSON of a self-test.
    """
    found: SelfTest = decode(SelfTest, json.loads(path.read_text(encoding="utf-8")), "selftest")
    return found


def render_selftest(result: SelfTest) -> str:
    """The whole page as text."""
    wrong, compared, bound = alarm_rate(result.harmless)
    return render_page(
        "selftest.html.j2",
        t=result,
        outcome=(Verdict.IDENTICAL, Verdict.DRIFT, Verdict.MISSING)[result.exit_code],
        marks={"identical": Verdict.IDENTICAL, "rounding": Verdict.ROUNDING, "drift": Verdict.DRIFT},
        tiles={fate: TILES.get(fate, Verdict.DRIFT) for fate in Fate},
        detectors=DETECTORS,
        groups=grouped(result.bugs),
        fates=Counter(item.fate for item in all_of(result.bugs, result.harmless)),
        rate={"alarms": wrong, "comparisons": compared, "bound": bound},
        named=named_share(result.bugs),
        bars=[bar(tail, result.c) for tail in result.tails],
        ticks=[(decade, _place(10.0**decade)) for decade in range(CHART_DECADES[0], CHART_DECADES[1] + 1)],
        limit=_place(result.c),
        by_ratio=sorted(result.harmless, key=lambda item: (item.fate.value, -(item.largest or 0.0))),
    )


def grouped(bugs: Iterable[BugResult]) -> dict[tuple[str, str], list[BugResult]]:
    """(pipeline, stage) -> its bugs, in the order in which they were planted."""
    found: dict[tuple[str, str], list[BugResult]] = {}
    for bug in bugs:
        found.setdefault((bug.pipeline, bug.stage), []).append(bug)
    return found


def named_share(bugs: Iterable[BugResult]) -> dict[str, int]:
    """Of the placed bugs: how many there are, and of how many the module and the function are among the suspects."""
    placed = [bug for bug in bugs if bug.fate is Fate.PLACED]
    return {
        "placed": len(placed),
        "module": sum(bool(bug.module_named) for bug in placed),
        "function": sum(bool(bug.function_named) for bug in placed),
        "suspects": sorted(len(bug.suspects) for bug in placed)[len(placed) // 2] if placed else 0,
    }


def bar(tail: Tail, c: float) -> dict[str, object]:
    """One line of the chart: percentages across for both tails; None where there is no such figure."""
    return {
        "tail": tail,
        "harmless": None if tail.harmless is None else _place(tail.harmless),
        "bug": None if tail.bug is None else _place(tail.bug),
        "over": tail.harmless is not None and tail.harmless > c,
    }


def _place(ratio: float) -> float:
    """A ratio on the chart's logarithmic axis, in per cent of its width."""
    low, high = CHART_DECADES
    log = low if ratio <= 0 else high if math.isinf(ratio) else min(max(math.log10(ratio), low), high)
    return round(100 * (log - low) / (high - low), 2)


def print_selftest(result: SelfTest, console: Console) -> None:
    """The answer, what failed, and both tails in one line each."""
    console.print(f"[bold]{result.answer}[/bold]", soft_wrap=True)
    for failure in result.failures:
        console.print(failure, markup=False, soft_wrap=True)
    share = named_share(result.bugs)
    if share["placed"]:
        console.print(
            f"of {share['placed']} placed bugs the module of {share['module']} and the function of {share['function']} "
            f"is among the suspects (median {share['suspects']})",
            soft_wrap=True,
        )
    largest = _largest(result.harmless)
    finite = [tail for tail in result.tails if tail.bug is not None]
    smallest = min(finite, key=lambda tail: tail.bug or 0.0, default=None)
    if largest and largest.largest is not None:
        console.print(f"largest harmless ratio: {largest.largest:.3g} floors ({largest.id}, {largest.where})")
    if smallest and smallest.bug is not None:
        console.print(f"smallest bug: {smallest.bug:.3g} floors ({smallest.bug_id}); c = {result.c:g}")


def _largest(items: Iterable[HarmlessResult]) -> HarmlessResult | None:
    return max(items, key=lambda item: item.largest or 0.0, default=None)
