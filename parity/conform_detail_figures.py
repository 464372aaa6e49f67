"""Figures that `vectors_detail.json` keeps beside the tensors, computed from what a run yields.

The name of a figure is `json/<run>/<kind>/...`. Norms of a module's parameters form one vector in the order of its
state dict, without those whose gradient is zero in exact arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from parity.conform_detail_runs import RunView
from parity.conform_detail_table import GENERATOR, MRF_WEIGHTS, OTHER_LOSSES, live_keys, unused_keys
from parity.conform_material import Material


def figure(view: RunView, item: str, material: Material) -> Tensor:
    """The subject's value of the figure `json/<run>/<item>`.

    Raises:
        KeyError: if there is no such figure, or the subject does not yield what it is made of.
    """
    kind, *rest = item.split("/")
    if kind == "losses":
        step, name = int(rest[0]), rest[1]
        return view.tensor(OTHER_LOSSES.get(name, f"losses/{name}"), step)
    if kind == "losses_unweighted":
        return view.tensor(f"losses/unweighted/{rest[0]}")
    if kind == "mrf_weighted_as_disabled_term":
        photo, mrf = (float(material.keys["config"][key]) for key in MRF_WEIGHTS)
        return view.runs.mrf(view.run) * photo * mrf
    if kind == "stats":
        per_sample = view.map(rest[0]).to(torch.float64).flatten(1)
        return per_sample.norm(dim=1) if rest[1] == "l2_per_sample" else per_sample.sum(dim=1)
    if kind in ("calls", "bn_updates", "other_grads", "optimizers"):
        return _structure(view, kind, rest)
    return _norms_of(view, kind, rest, material.keys["state_dict_keys"])


def _norms_of(view: RunView, kind: str, rest: list[str], keys: dict[str, dict[str, object]]) -> Tensor:
    if kind == "grad_l2_by_loss":
        values = view.runs.term_gradients(view.run, rest[0])
        return _norms(
            values[f"{module}/{key}"] for module in GENERATOR for key in keys[module] if key.endswith(".weight")
        )
    step, *middle, module = rest
    live = live_keys(module, keys[module])
    if kind == "grads":
        return _norms(view.gradient(int(step), middle[0], module, key) for key in live)
    if kind == "without_gradient":
        unused = unused_keys(module, keys[module])
        return torch.tensor(sum(not view.gradient(int(step), middle[0], module, key).any() for key in unused))
    if kind == "adam":
        return _norms(view.adam(int(step), middle[0], module, key) for key in live)
    if kind == "weights_l2":
        return _norms(view.updated(int(step), module, key) for key in keys[module])
    raise KeyError(f"no figure {kind}")


def _structure(view: RunView, kind: str, rest: list[str]) -> Tensor:
    """Counts and settings; a trace describes the structure of its first step."""
    facts = view.trace.structure
    if kind == "calls":
        return torch.tensor(facts["module_calls"][rest[0]])
    if kind == "bn_updates":
        return torch.tensor(facts["batchnorm_updates"][rest[0]])
    if kind == "other_grads":
        return torch.tensor(facts["unowned_gradients"][rest[0]])
    owner, setting = rest
    return torch.tensor(facts["optimizers"][owner][setting], dtype=torch.float64)


def _norms(tensors: Iterable[Tensor]) -> Tensor:
    return torch.stack([tensor.detach().cpu().to(torch.float64).norm() for tensor in tensors])
