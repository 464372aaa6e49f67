"""The figures of `vectors_detail.json` as recorded vectors with the rule each is judged by.

coverage.json bounds tensors; a figure is judged by the rule of the tensor it summarises. Where there is none it is
shown and never judged, except counts and settings, which are equal or not.
"""

from __future__ import annotations

import re
from ast import literal_eval
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from parity.conform_detail_table import GENERATOR, live_keys, unused_keys
from parity.conform_material import Vectors
from parity.coverage import Rule, rule_for

BOTH = ("legacy", "modern")
Fact = tuple[str, Any, Rule]
_EXACT = Rule(pattern="", subjects=BOTH, metric="exact", bound=0.0, note="a count or setting")
_INFO = Rule(pattern="", subjects=BOTH, metric="info", bound=None, note="coverage.json has no rule for it")
# "json losses of step 1: 1e-4; adv_G after the update: 1e-4"
_NOTED = {"later": re.compile(r"losses of step 1: ([\d.e-]+)"), "adv_G": re.compile(r"adv_G[^:;]*: ([\d.e-]+)")}


def recorded_facts(vectors: Vectors) -> dict[str, tuple[Tensor, Rule]]:
    """Name -> recorded figure and its rule.

    Raises:
        KeyError, TypeError, ValueError, IndexError: if the document is not what the recipe describes.
    """
    facts: dict[str, tuple[Tensor, Rule]] = {}
    for run, document in vectors.document.get("runs", {}).items():
        for make in (_losses, _gradients, _adam, _weights, _counts, _settings):
            for name, value, rule in make(run, document, vectors):
                facts[f"json/{run}/{name}"] = (torch.as_tensor(value, dtype=torch.float64), rule)
    for name, stats in vectors.document.get("stats", {}).items():
        run, _, map_name = name.partition("/")
        rule = _summary(vectors, f"{run}/strided8/{map_name}")
        facts[f"json/{run}/stats/{map_name}/l2_per_sample"] = (_vector(stats["l2_per_sample"]), rule)
        facts[f"json/{run}/stats/{map_name}/sum_per_sample"] = (_vector(stats["sum_per_sample"]), _INFO)
    return facts


def _losses(run: str, document: Mapping[str, Any], vectors: Vectors) -> Iterator[Fact]:
    for step, losses in enumerate(document["losses"]):
        for name, value in losses.items():
            rule = _summary(vectors, f"{run}/loss/{name}")
            noted = _NOTED["adv_G"] if name == "adv_G" else _NOTED["later"] if step else None
            if noted and (found := noted.search(rule.note)):
                rule = replace(rule, bound=max(float(found[1]), rule.bound or 0.0))
            yield f"losses/{step}/{name}", value, rule
    for name, value in document["losses_unweighted"].items():
        yield f"losses_unweighted/{name}", value, _summary(vectors, f"{run}/loss/{name}")
    rule = _summary(vectors, f"{run}/loss/mrf_unweighted")
    yield "mrf_weighted_as_disabled_term", document["mrf_weighted_as_disabled_term"], rule


def _gradients(run: str, document: Mapping[str, Any], vectors: Vectors) -> Iterator[Fact]:
    keys = vectors.material.keys["state_dict_keys"]
    for place, norms in document["grads"].items():
        _, when, module = place.split("/")
        live = live_keys(module, keys[module])
        rule = _summary(vectors, f"{run}/grad_slice/{when}/{module}/{live[0]}")
        yield f"grads/{place}", [norms[key] for key in live], rule
        if when == "after_D_backward" and (unused := unused_keys(module, keys[module])):
            yield f"without_gradient/{place}", sum(norms[key] is None for key in unused), _EXACT
    for term, norms in document.get("grad_l2_by_loss", {}).items():
        names = [f"{module}/{key}" for module in GENERATOR for key in keys[module] if key.endswith(".weight")]
        yield f"grad_l2_by_loss/{term}", [norms[name] for name in names], _summary(vectors, f"{run}/by_loss/{term}/")


def _adam(run: str, document: Mapping[str, Any], vectors: Vectors) -> Iterator[Fact]:
    """First moments are means of gradients and judged as those are; second moments are squares of them: twice that."""
    keys = vectors.material.keys["state_dict_keys"]
    for step, states in enumerate(document["adam"]):
        by_name = {name.split("/", 2)[2]: state for name, state in states.items()}
        for module in (*GENERATOR, "D"):
            live = live_keys(module, keys[module])
            when = "after_D_backward" if module == "D" else "after_G_backward"
            rule = _summary(vectors, f"{run}/grad_slice/{when}/{module}/{live[0]}")
            twice = replace(rule, bound=2 * (rule.bound or 0.0), note="squares: twice the bound of the gradient")
            for what, its_rule in (("exp_avg", rule), ("exp_avg_sq", twice)):
                values = [by_name[f"{module}/{key}"][f"{what}_l2"] for key in live]
                yield f"adam/{step}/{what}/{module}", values, its_rule


def _weights(run: str, document: Mapping[str, Any], vectors: Vectors) -> Iterator[Fact]:
    keys = vectors.material.keys["state_dict_keys"]
    for step, states in enumerate(document["weights_after_step"]):
        for module in (*GENERATOR, "D"):
            yield f"weights_l2/{step}/{module}", [states[f"{module}/{key}"]["l2"] for key in keys[module]], _INFO


def _counts(run: str, document: Mapping[str, Any], vectors: Vectors) -> Iterator[Fact]:
    """What a step does how often; the JSON has sums over all steps, a trace describes its first one."""
    for module, calls in document["calls"].items():
        yield f"calls/{module}", calls // len(document["losses"]), _EXACT
    before, after = document["bn_counts"][0]
    for module in ("AUNet", "ACG"):
        yield f"bn_updates/{module}", after[module] - before[module], _EXACT
        yield f"other_grads/{module}", document["other_grads"]["0/after_G_backward"][module][0], _EXACT
    for module, training in document["modes"].items():
        yield f"modes/{module}", float(training), replace(_INFO, note="the subjects have no tap for it")


def _settings(run: str, document: Mapping[str, Any], vectors: Vectors) -> Iterator[Fact]:
    for owner, tensors in zip(("G", "D"), document["opt_counts"], strict=True):
        stored = document["opt_defaults"][owner]
        yield f"optimizers/{owner}/tensors", tensors, _EXACT
        for setting in ("lr", "betas"):
            yield f"optimizers/{owner}/{setting}", literal_eval(stored[setting]), _EXACT


def _summary(vectors: Vectors, name: str) -> Rule:
    """The rule of vector `name`, applied to figures: each relative to itself."""
    rule = rule_for(name, vectors.rules)
    if rule is None or rule.metric in ("info", "abs"):
        return _INFO
    return replace(rule, metric="rel")


def _vector(values: Any) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64)
