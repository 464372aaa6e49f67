"""Did a switch reach anything? Where the evidence says no, equal bytes prove nothing (docs/reproduce.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from parity.reproduce.evidence import LEDGER, NOTE
from parity.reproduce.operations import RACERS
from parity.reproduce.own import HONOURED
from parity.reproduce.run import GENERATORS, SITES

Result = Mapping[str, Any]
_LIBRARIES = ("precision", "onednn", "environment")


def unexercised(result: Result, reference: Result) -> str:
    """Why equal bytes of a run and its reference prove nothing; empty where every switch between them did reach."""
    before, after = reference["notes"].get(NOTE), result["notes"].get(NOTE)
    if not before or not after:
        return ""
    run, other = after["run"], before["run"]
    if not run["seeds"] and after["begin"] == before["begin"]:
        return "nothing is seeded, and yet all generators began in the same state"
    if reasons := [_unseeded(name, result, before) for name in run["unseeded"]]:
        return "; ".join(reasons) if all(reasons) else ""
    changed = {field for field in run if run[field] != other[field]}
    if run["seeds"] and not run["deterministic"]:
        changed.add("deterministic")  # a repetition of such a run proves as little
    found = [_reached(field, result, reference) for field in sorted(changed & (HONOURED | set(_RULES)))]
    return "; ".join(dict.fromkeys(found)) if found and all(found) else ""


def _reached(field: str, result: Result, reference: Result) -> str:
    """Why the switch `field` proves nothing; a subject of your own must at least have looked at it."""
    read = result["notes"][NOTE].get("read")
    if read is not None and field in HONOURED and field not in read:
        return f"the subject never reads run.{field}"
    return _RULES[field](result, reference) if field in _RULES else ""


def _unseeded(name: str, result: Result, before: Mapping[str, Any]) -> str:
    after = result["notes"][NOTE]
    if name in GENERATORS:
        ledger = LEDGER[name]
        if not after["used"][ledger]:
            return f"nothing in this run draws from the generator of {name}"
        return "it began in the seeded state" if after["begin"][ledger] == before["begin"][ledger] else ""
    if name in SITES:
        if not after["made"].get(name):
            return "this draw is never made here"
        return "" if _came_out_other(name, result) else "the draw came out like the seeded one, by chance; run it again"
    started = _started(result)
    return started or ("" if after["workers"].get("drew") else "the loading processes draw no random numbers")


def _came_out_other(site: str, result: Result) -> bool:
    """Whether the draw differs; of order and window only what the updates met counts, and equal clips are many."""
    if site in ("order", "window"):
        return any(key.startswith("data/") and not drift["bitwise"] for key, drift in result["drifts"].items())
    return bool(result["notes"][NOTE]["differing"].get(site))


def _started(result: Result, _: Result | None = None) -> str:
    return "" if result["notes"][NOTE]["workers"].get("started") else "no loading process was started"


def _same(key: str, text: str) -> Callable[[Result, Result], str]:
    return lambda result, reference: text if result["notes"][NOTE][key] == reference["notes"][NOTE][key] else ""


def _libraries(result: Result, reference: Result) -> str:
    """A numeric switch shows in a probe or in what the library says of itself; another hash seed in a hash."""
    keys = ("probes", "capability", "hash")
    if any(result["notes"][NOTE][key] != reference["notes"][NOTE][key] for key in keys):
        return ""
    return "a matrix product, a convolution, an exponential and a sum have the same bytes with and without it here"


def _resumed(result: Result, _: Result) -> str:
    """A continued run goes on where it stopped, and stopped before; one that begins anew is no resume."""
    noted = result["notes"][NOTE]
    run, steps = noted["run"], noted.get("steps")
    if not steps or not run["resumed"]:
        return ""
    if steps["first"] is None or steps["first"] < run["stop"]:
        began = "shows no update" if steps["first"] is None else f"begins at update {steps['first']}"
        return f"the continued run {began}, not at update {run['stop']}, where it was interrupted"
    if "read" not in noted:
        return ""  # the forks' own loops may make one update more before they stop
    made = [part["made"] for part in result["interrupted"]]
    if made != [run["stop"]]:
        return f"the run to be interrupted after {run['stop']} of {run['steps']} updates made {made[0]}"
    left = run["steps"] - run["stop"]
    return "" if steps["made"] == left else f"the continued run makes {steps['made']} updates, {left} were left"


def _race(result: Result, reference: Result) -> str:
    if reference["notes"].get(RACERS) == 0:
        return "the one kernel that races on a CPU, an accumulating index_put_, is never called"
    differing, repeats = result["notes"][NOTE]["races"]
    text = f"by itself the kernel that races differed in {differing} of {repeats} repeats"
    return f"no race showed in these two runs, which proves nothing: {text}"


_RULES: Mapping[str, Callable[[Result, Result], str]] = {
    "threads": _same("threads", "the library kept its number of threads"),
    "workers": _started,
    "deterministic": _race,
    "adam": _same("adam", "the library chooses this one by itself on this device"),
    "listing": lambda result, _: (
        "" if result["notes"][NOTE].get("listings") else "no folder of several files is listed"
    ),
    "channels_last": lambda result, _: "" if result["notes"][NOTE].get("layout") else "no weight has another layout",
    **dict.fromkeys(("stop", "resumed"), _resumed),
    "compiled": lambda result, _: "" if result["notes"][NOTE].get("graphs") else "nothing was compiled",
    **dict.fromkeys(_LIBRARIES, _libraries),
}
