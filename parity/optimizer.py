"""One optimizer update taken apart, for every parameter: which ingredient departs first, and which setting explains it.

Adam (Kingma and Ba 2015), all in float64 from what each side has recorded and what its optimizer says of itself:
gradient g (with weight decay, unless decoupled), moments m and v, bias corrections 1 - beta^t, denominator
sqrt(v / (1 - beta2^t)) + eps, delta = new - old parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from parity.noise import C
from parity.optimizer_watch import UNNAMED, Update
from parity.wording import listed

# Ingredient -> settings that enter it, in the order in which an update computes.
INGREDIENTS: Mapping[str, tuple[str, ...]] = {
    "gradient": ("maximize", "weight_decay"),
    "exp_avg": ("beta1",),
    "exp_avg_sq": ("beta2",),
    "bias correction": ("beta1", "beta2", "step"),
    "denominator": ("eps", "amsgrad"),
    "delta": ("kind", "lr", "weight_decay"),
}
_DECOUPLED = ("AdamW",)
_ROUNDOFF = torch.finfo(torch.float32).eps / 2
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Ingredient:
    """One ingredient over all parameters: the largest relative L2 of modern against legacy, where, and the verdict."""

    name: str
    agrees: bool
    rel_l2: float
    worst: str
    differing: int
    parameters: int


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """An update of modern held against legacy's.

    ownership: missing, extra and unknown parameters, groups and their order, in words; empty if equal.
    settings: hyper-parameters that are not the same, in words. made: (file:line, function) where modern's optimizer is
    built. sentence: what departs first and why.
    """

    ownership: tuple[str, ...]
    settings: tuple[str, ...]
    ingredients: tuple[Ingredient, ...]
    made: tuple[str, str]
    legacy_made: tuple[str, str]
    sentence: str

    @property
    def departs(self) -> bool:
        """Whether anything at all is not the same."""
        return bool(self.ownership or self.settings) or not all(part.agrees for part in self.ingredients)


def take_apart(inputs: Tensors, legacy: Update, old: Tensors, modern: Update, new: Tensors) -> Anatomy:
    """Compare two updates.

    Args:
        inputs: of the update stage: parameter/KEY, gradient/KEY and moments, equal on both sides.
        legacy: what legacy's optimizer says of itself.
        old: its results: parameter/KEY, exp_avg/KEY, exp_avg_sq/KEY.
        modern: likewise.
        new: likewise.
    """
    keys = [name.partition("/")[2] for name in inputs if name.startswith("parameter/")]
    shared = [key for key in keys if f"parameter/{key}" in old and f"parameter/{key}" in new]
    before, after = ({key: _facts(update, key) for key in shared} for update in (legacy, modern))

    def part(name: str, compute: _Compute) -> Ingredient:
        pairs = {key: (compute(inputs, old, before[key], key), compute(inputs, new, after[key], key)) for key in shared}
        sizes = {key: float(inputs[f"parameter/{key}"].norm()) for key in shared if name == "delta"}
        return _ingredient(name, pairs, sizes)

    ingredients = tuple(part(name, compute) for name, compute in _COMPUTE.items())
    ownership, settings = tuple(_ownership(legacy, modern)), tuple(differing_settings(shared, before, after))
    return Anatomy(
        ownership=ownership,
        settings=settings,
        ingredients=ingredients,
        made=modern.made,
        legacy_made=legacy.made,
        sentence=_sentence(ownership, settings, ingredients),
    )


def _facts(update: Update, key: str) -> dict[str, Any]:
    """What the optimizer applies to one parameter."""
    group = next((group for group in update.groups if key in group.keys), None)
    settings = dict(group.settings) if group else {}
    betas = settings.pop("betas", None)
    if betas:
        settings |= {"beta1": betas[0], "beta2": betas[1]}
    return {"kind": update.kind, **settings, "step": update.steps.get(key)}


def _gradient(inputs: Tensors, _: Tensors, facts: dict[str, Any], key: str) -> Tensor:
    found = inputs[f"gradient/{key}"].double() * (-1 if facts.get("maximize") else 1)
    decay = 0.0 if facts["kind"] in _DECOUPLED else facts.get("weight_decay", 0.0)
    return found + decay * inputs[f"parameter/{key}"].double() if decay else found


def _result(name: str) -> _Compute:
    def read(_: Tensors, results: Tensors, __: dict[str, Any], key: str) -> Tensor | None:
        value = results.get(f"{name}/{key}")
        return None if value is None else value.double()

    return read


def _bias(_: Tensors, __: Tensors, facts: dict[str, Any], ___: str) -> Tensor | None:
    if "beta1" not in facts or not facts["step"]:
        return None
    return torch.tensor([1 - facts[name] ** facts["step"] for name in ("beta1", "beta2")], dtype=torch.float64)


def _denominator(inputs: Tensors, results: Tensors, facts: dict[str, Any], key: str) -> Tensor | None:
    corrections, squares = _bias(inputs, results, facts, key), results.get(f"exp_avg_sq/{key}")
    if corrections is None or squares is None:
        return None
    return (squares.double() / corrections[1]).sqrt() + facts.get("eps", 0.0)


def _delta(inputs: Tensors, results: Tensors, _: dict[str, Any], key: str) -> Tensor:
    return results[f"parameter/{key}"].double() - inputs[f"parameter/{key}"].double()


_Compute = Callable[[Tensors, Tensors, dict[str, Any], str], Tensor | None]
_COMPUTE: Mapping[str, _Compute] = {
    "gradient": _gradient,
    "exp_avg": _result("exp_avg"),
    "exp_avg_sq": _result("exp_avg_sq"),
    "bias correction": _bias,
    "denominator": _denominator,
    "delta": _delta,
}


def _ingredient(
    name: str, pairs: Mapping[str, tuple[Tensor | None, Tensor | None]], sizes: Mapping[str, float]
) -> Ingredient:
    """Judge one ingredient by C times the roundoff of float32, of the values in `sizes` where it is a difference."""
    worst, largest, differing, counted = "", 0.0, 0, 0
    for key, (reference, candidate) in pairs.items():
        if reference is None or candidate is None:
            continue
        counted += 1
        error, norm = float((candidate - reference).norm()), float(reference.norm())
        differing += error > C * _ROUNDOFF * max(norm, sizes.get(key, 0.0))
        apart = error / norm if norm else error
        if apart > largest:
            worst, largest = key, apart
    return Ingredient(
        name=name, agrees=not differing, rel_l2=largest, worst=worst, differing=differing, parameters=counted
    )


def _ownership(legacy: Update, modern: Update) -> list[str]:
    """Parameters and groups that are not the same."""
    old, new = ([key for group in update.groups for key in group.keys] for update in (legacy, modern))
    found = []
    for word, odd in (("missing", set(old) - set(new)), ("extra", set(new) - set(old))):
        odd = odd - {UNNAMED}
        if odd:
            found.append(f"{len(odd)} parameter{'s' * (len(odd) > 1)} {word}: {listed(sorted(odd), 3)}")
    if unknown := new.count(UNNAMED) - old.count(UNNAMED):
        found.append(f"{abs(unknown)} {'more' if unknown > 0 else 'fewer'} unknown parameters than legacy")
    if len(set(new)) + new.count(UNNAMED) - (UNNAMED in new) != len(new):
        found.append("a parameter is updated twice")
    if len(legacy.groups) != len(modern.groups):
        found.append(f"{len(modern.groups)} parameter groups instead of {len(legacy.groups)}")
    elif sorted(old) == sorted(new) and old != new:
        place = next(index for index, (a, b) in enumerate(zip(old, new, strict=True)) if a != b)
        found.append(f"other order from place {place} on: {new[place]} instead of {old[place]}")
    return found


def differing_settings(
    keys: Sequence[str], before: Mapping[str, dict[str, Any]], after: Mapping[str, dict[str, Any]]
) -> list[str]:
    """Hyper-parameters that are not the same, each with the parameters it concerns; `before` and `after` by key."""
    found: dict[str, list[str]] = {}
    for key in keys:
        for name in dict.fromkeys((*before[key], *after[key])):
            old, new = before[key].get(name), after[key].get(name)
            if old != new:
                text = f"{name} {_shown(new)} instead of {_shown(old)}"
                found.setdefault(text, []).append(key)
    return [
        text if len(own) == len(keys) else f"{text} (for {len(own)} of {len(keys)}: {listed(own, 2)})"
        for text, own in found.items()
    ]


def _sentence(ownership: tuple[str, ...], settings: tuple[str, ...], parts: tuple[Ingredient, ...]) -> str:
    """What departs first, which setting enters it, and what agrees before it."""
    first = next((part for part in parts if not part.agrees), None)
    said = [*ownership]
    if first:
        names = [part.name for part in parts]
        before = [part.name for part in parts[: names.index(first.name)] if part.parameters]
        why = [text for text in settings if text.split(" ")[0] in INGREDIENTS[first.name]] or list(settings)
        extent = (
            f"{first.differing} of {first.parameters} parameters, relative L2 up to {first.rel_l2:.2g} ({first.worst})"
        )
        text = f"{first.name} departs first: {'; '.join(why) or 'no setting explains it'}; {extent}"
        said.append(f"{text}; {', '.join(before)} agree{'s' * (len(before) == 1)}" if before else text)
    elif settings:
        said.append(f"{'; '.join(settings)}, without effect on this update")
    return "; ".join(said) or "every ingredient agrees"


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
