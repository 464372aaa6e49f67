"""Where two replays of one stage part: the first operation that makes other values out of values that both have.

Both sides are searched from their unequal results backwards along the data, never beyond a value that the other has
too; so neither the order of operations nor a reformulation that leads to the same value again matters. What remains are
the operations in between; those whose own inputs are agreed are where the difference is made. Data that is only
arranged otherwise (transposed, selected, joined) counts as agreed at first; if then the same operation with the same
arguments gives other values, the arrangement is to blame and is searched for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from parity.agreement import Side, Values, base_name, moves_only
from parity.tape import Step, Tape, Value

Agrees = Callable[[Value], bool]


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """A step of modern, its counterpart of legacy where there is one, and what their arguments show.

    differences: arguments, parameters or constants that are not the same, in words. distance: relative L2 of modern's
    output to the nearest value of legacy. agreed: number of modern's steps before it with an agreed output.
    """

    modern: int
    legacy: int | None
    differences: tuple[str, ...]
    distance: float
    agreed: int


def suspects(modern: Tape, legacy: Tape, unequal: Sequence[str]) -> list[Suspect]:
    """The steps of `modern` where the difference of the `unequal` results is made, best founded first.

    Empty if a result depends on no operation at all (it is then an input, or computed outside PyTorch).
    """
    here, there = Side(modern, Values(legacy)), Side(legacy, Values(modern))
    results = [modern.results[name] for name in unequal if name in modern.results]
    expected = [legacy.results[name] for name in unequal if name in legacy.results]
    search, other = _Search(here, here.loose), _Search(there, there.loose)
    search.start(results)
    other.start(expected)
    found = [_suspect(here, index, other, there) for index in sorted(search.sources)]
    found.sort(key=lambda suspect: (not _founded(modern, legacy, suspect), suspect.modern))
    refined = [_rearranged(here, suspect, there, expected) for suspect in found]
    if all(here.loose(value) for value in results):  # the results are only arranged otherwise
        refined = _strict(here, there, results, expected) + refined
    return list(dict.fromkeys(refined))


class _Search:
    """Walks one side backwards from unequal results through what is not agreed."""

    def __init__(self, side: Side, agrees: Agrees) -> None:
        self._side, self._agrees = side, agrees
        self.sources: set[int] = set()
        self.visited: set[int] = set()

    def start(self, results: Iterable[Value]) -> None:
        """Search from results that are known to be unequal, whether or not they occur on the other side."""
        for value in results:
            self._follow(self._blamed(value))

    def _follow(self, waiting: list[int]) -> None:
        while waiting:
            index = waiting.pop()
            if index in self.visited:
                continue
            self.visited.add(index)
            step = self._side.tape.steps[index]
            earlier = [w for value in step.inputs if not self._agrees(value) for w in self._blamed(value)]
            if not earlier:
                self.sources.add(index)
            waiting += earlier

    def _blamed(self, value: Value) -> list[int]:
        """The writers of an unequal value whose own outputs are unequal; else the last, which put it there."""
        blamed = [index for index in value.writers if self._unequal(index)]
        if blamed or not value.writers:
            return blamed
        last = value.writers[-1]
        if self._side.tape.steps[last].inputs or value.sketch.key in {
            x.key for x in self._side.tape.steps[last].outputs
        }:
            return [last]
        # A blank that something outside the dispatcher has filled since, from whatever was there before.
        return [index for index in range(last) if self._unequal(index)] or [last]

    def _unequal(self, index: int) -> bool:
        return not all(self._agrees(value) for value in self._side.outputs(index))


def _suspect(here: Side, index: int, other: _Search, there: Side) -> Suspect:
    step = here.tape.steps[index]
    match = _counterpart(step, other, there)
    differences: list[str] = []
    if match is not None:
        theirs = there.tape.steps[match]
        differences = _differences(step, theirs, here)
        skipped = None if differences else _skipped(step, theirs, here, there)
        if skipped:
            index, match = skipped
            differences = [f"legacy's {base_name(there.tape.steps[match].call)} is missing after it"]
    agreed = sum(all(here.strict(value) for value in here.outputs(i)) for i in range(index))
    return Suspect(
        modern=index, legacy=match, differences=tuple(differences), distance=here.distance(step), agreed=agreed
    )


def _counterpart(step: Step, other: _Search, there: Side) -> int | None:
    """Legacy's step at that place: the same operation on the same values if there is one, else where legacy parts."""
    keys = {value.sketch.key for value in step.inputs}
    sizes = {found.count for found in step.outputs}

    def likeness(index: int) -> tuple[bool, int, bool, bool, int]:
        theirs = there.tape.steps[index]
        return (
            base_name(theirs.call) == base_name(step.call) and theirs.call.backward == step.call.backward,
            len(keys & {value.sketch.key for value in theirs.inputs}),
            index in other.sources,
            bool(sizes & {found.count for found in theirs.outputs}),
            -index,
        )

    reading = [index for index in other.visited if there.tape.steps[index].inputs]
    best = max(reading, key=likeness, default=None)
    if best is not None and (likeness(best)[0] or likeness(best)[1]):
        return best
    return min(other.sources & set(reading), default=None)


def _differences(mine: Step, theirs: Step, here: Side) -> list[str]:
    if base_name(mine.call) != base_name(theirs.call):
        found = [f"{base_name(mine.call)} instead of {base_name(theirs.call)}"]
    else:
        before, after = dict(theirs.call.scalars), dict(mine.call.scalars)
        found = [
            f"{name} {after.get(name, 'default')} instead of {before.get(name, 'default')}"
            for name in dict.fromkeys((*before, *after))
            if before.get(name) != after.get(name)
        ]
    outside = [value for value in mine.inputs if not value.writers and not here.loose(value)]
    return found + [
        f"{value.name or f'a constant of {value.sketch.count}'} does not occur in legacy" for value in outside
    ]


def _skipped(mine: Step, theirs: Step, here: Side, there: Side) -> tuple[int, int] | None:
    """Where legacy's step reads what an operation made of the value read here: that value's step, that operation."""
    unknown = [value for value in theirs.inputs if not there.loose(value)]
    keys = {value.sketch.key for value in theirs.inputs}
    spare = [value for value in mine.inputs if value.writers and here.loose(value) and value.sketch.key not in keys]
    if len(unknown) != 1 or not spare:
        return None
    search = _Search(there, there.loose)
    search.start(unknown)
    return (spare[0].writers[-1], min(search.sources)) if search.sources else None


def _founded(modern: Tape, legacy: Tape, suspect: Suspect) -> bool:
    """The same operation on the same values, with other arguments or another outcome."""
    if suspect.legacy is None:
        return False
    mine, theirs = modern.steps[suspect.modern], legacy.steps[suspect.legacy]
    return base_name(mine.call) == base_name(theirs.call) and bool(suspect.differences)


def _rearranged(here: Side, suspect: Suspect, there: Side, expected: Sequence[Value]) -> Suspect:
    """If the same operation with the same arguments gives other values, the step that arranged its inputs otherwise."""
    mine = here.tape.steps[suspect.modern]
    if suspect.legacy is None or suspect.differences:
        return suspect
    moved = [value for value in mine.inputs if value.writers and not here.strict(value)]
    found = next(iter(_strict(here, there, moved, expected)), None)
    if found is None:
        return suspect
    reader = base_name(mine.call)
    why = f"{base_name(here.tape.steps[found.modern].call)} hands {reader} its values in another order or selection"
    return replace(found, legacy=suspect.legacy, distance=suspect.distance, differences=(why,))


def _strict(here: Side, there: Side, values: Sequence[Value], expected: Sequence[Value]) -> list[Suspect]:
    """Where the order of elements departs on the way to `values`."""
    search, other = _Search(here, here.strict), _Search(there, there.strict)
    search.start(values)
    other.start(expected)
    steps = (index for index in sorted(search.sources) if moves_only(here.tape.steps[index].call))
    return [_suspect(here, index, other, there) for index in steps]
