"""`coverage.json`: which subject must meet which recorded vector, by which metric, within which bound.

The bounds are fixed acceptance limits for `conform`; the audit never takes a tolerance from here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_NEGLIGIBLE = 1e-6  # `rel`: elements below this share of the largest are left out (coverage.json, "metrics")
_OUTLIERS = 0.001  # `raster`: share of elements that may exceed the bound
_MEAN_SHARE = 0.1  # `raster`: the mean must stay within this share of the bound
# How a note bounds updated parameters: "bound 2 lr of the optimizer that owns it (G 5e-6, D 1e-4)".
_STEPS_NOTE, _RATES_NOTE = re.compile(r"bound (\d+) lr\b"), re.compile(r"\(G ([\d.e-]+), D ([\d.e-]+)\)")


class ConformError(ValueError):
    """A folder of vectors that cannot be judged; the message says what is wrong, where, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One entry of coverage.json; `bound` is None for `info`, and where `rates` give it by the vector's name.

    rates: optimizer -> bound of a parameter it owns.
    """

    pattern: str
    subjects: tuple[str, ...]
    metric: str
    bound: float | None
    note: str
    rates: Mapping[str, float] = field(default_factory=dict)


def load_rules(path: Path) -> tuple[Rule, ...]:
    """Read the rules of a coverage.json.

    Raises:
        ConformError: if the file is missing, is not such a document, or names a metric this version does not know.
    """
    try:
        document = json.loads(path.read_text())
        rates = _learning_rates(" ".join(entry.get("note", "") for entry in document["rules"]))
        rules = tuple(_rule(entry, rates) for entry in document["rules"])
    except FileNotFoundError as error:
        raise ConformError(f"{path} is missing: without it nothing says which vectors are asked of whom") from error
    except (ValueError, TypeError, KeyError, re.error) as error:
        raise ConformError(f"{path} is not a coverage document ({type(error).__name__}: {error})") from error
    if unknown := sorted({rule.metric for rule in rules} - METRICS.keys() - {"raster", "info"}):
        raise ConformError(f"{path} asks for unknown metrics: {', '.join(unknown)}; update this code or the file")
    if boundless := [
        rule.pattern for rule in rules if rule.bound is None and not (rule.rates or rule.metric == "info")
    ]:
        raise ConformError(f"{path} gives no bound for {boundless[0]!r}; add one or make it info")
    return rules


def _learning_rates(notes: str) -> dict[str, float]:
    """Optimizer -> learning rate, where the notes of a file give them."""
    found = _RATES_NOTE.search(notes)
    return {"G": float(found[1]), "D": float(found[2])} if found else {}


def _rule(entry: dict[str, Any], learning_rates: Mapping[str, float]) -> Rule:
    re.compile(entry["pattern"])
    steps = _STEPS_NOTE.search(entry.get("note", ""))
    by_rate = entry["bound"] is None and entry["metric"] == "abs" and steps
    return Rule(
        pattern=entry["pattern"],
        subjects=tuple(entry["subjects"]),
        metric=entry["metric"],
        bound=None if entry["bound"] is None else float(entry["bound"]),
        note=entry.get("note", ""),
        rates={owner: int(steps[1]) * rate for owner, rate in learning_rates.items()} if steps and by_rate else {},
    )


def rule_for(name: str, rules: tuple[Rule, ...]) -> Rule | None:
    """The first rule whose pattern is found in `name`; None when no rule asks for it."""
    rule = next((rule for rule in rules if re.search(rule.pattern, name)), None)
    if rule is None or not rule.rates:
        return rule
    return replace(rule, bound=rule.rates["D" if "/D/" in name else "G"])  # the discriminator's optimizer, or the other


def judge(rule: Rule, recorded: Tensor, computed: Tensor, same_face: Tensor | None) -> tuple[float, bool]:
    """The rule's figure and whether it is within the bound.

    Args:
        rule: metric and bound.
        recorded: the vector.
        computed: the subject's tensor of the same shape, already in the vector's dtype.
        same_face: [H,W] bool, pixels on which recorded and computed face ids agree; only `raster` reads it.

    Raises:
        ConformError: if `raster` is asked for without face ids, or the shape shows no raster.
    """
    if rule.metric == "info":
        return math.nan, True
    bound = 0.0 if rule.bound is None else rule.bound
    if rule.metric == "raster":
        return _raster(recorded, computed, same_face, bound)
    if rule.rates:  # a parameter is rounded when it is stored, so two steps of one rate can be a spacing further apart
        bound += torch.finfo(torch.float32).eps * float(recorded.abs().max())
    figure = METRICS[rule.metric](recorded.to(torch.float64), computed.to(torch.float64))
    return figure, figure <= bound  # a NaN figure is not within any bound


def _rel_max(recorded: Tensor, computed: Tensor) -> float:
    scale = float(recorded.abs().max())
    largest = _abs(recorded, computed)
    return largest / scale if scale else largest


def _rel(recorded: Tensor, computed: Tensor) -> float:
    size = recorded.abs()
    ratio = (computed - recorded).abs() / size
    if recorded.ndim:
        ratio = torch.where(size < _NEGLIGIBLE * size.max(), torch.zeros_like(ratio), ratio)
    return float(torch.where(computed == recorded, torch.zeros_like(ratio), ratio).max())


def _abs(recorded: Tensor, computed: Tensor) -> float:
    return float((computed - recorded).abs().max())


def _ids(recorded: Tensor, computed: Tensor) -> float:
    return float((recorded != computed).to(torch.float64).mean())


# Figure of (recorded, computed), both float64 of one shape. `exact` counts like `ids`; its bound is 0.
METRICS: dict[str, Callable[[Tensor, Tensor], float]] = {
    "rel_max": _rel_max,
    "rel": _rel,
    "abs": _abs,
    "ids": _ids,
    "exact": _ids,
}


def _raster(recorded: Tensor, computed: Tensor, same_face: Tensor | None, bound: float) -> tuple[float, bool]:
    """The 99.9 % quantile of |a-b| and ten times its mean, whichever is larger, relative to max|ref|."""
    if same_face is None:
        raise ConformError("face ids (render/pix_to_face, recorded and computed) are needed for the raster metric")
    pixels = _spread(same_face, recorded)
    scale = float(recorded.to(torch.float64).abs().max()) or 1.0
    error = (computed.to(torch.float64) - recorded.to(torch.float64)).abs()[pixels]
    if error.numel() == 0:
        return math.inf, False
    allowed = math.floor(_OUTLIERS * error.numel())
    quantile = float(error.sort(descending=True).values[allowed]) / scale
    figure = max(quantile, float(error.mean()) / scale / _MEAN_SHARE)
    return figure, figure <= bound


def _spread(same_face: Tensor, recorded: Tensor) -> Tensor:
    """`same_face` strided to the raster of `recorded` and expanded over its other axes."""
    height, width = same_face.shape
    for axis in range(recorded.ndim - 1):
        rows, columns = recorded.shape[axis : axis + 2]
        stride = height // rows if rows else 0
        if stride and (-(-height // stride), -(-width // stride)) == (rows, columns):
            shape = [1] * recorded.ndim
            shape[axis : axis + 2] = [rows, columns]
            return same_face[::stride, ::stride].reshape(shape).expand(recorded.shape)
    raise ConformError(f"shape {tuple(recorded.shape)} is no strided {height} x {width} raster")
