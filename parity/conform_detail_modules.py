"""Inputs of the single modules of `vectors_detail` (README, "Deterministic inputs") and the discriminator's columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from parity.conform_detail_inputs import images
from parity.conform_material import Material

_AU_SIZE, _NODES, _FEATURES = 41, 27, 512
_UNIT_AFN = 0.0764
Replay = Callable[[str, Mapping[str, Tensor]], dict[str, Tensor]]


def module_inputs(material: Material, name: str) -> dict[str, Tensor]:
    """Arguments of a replay by the name the table gives them; raises KeyError for an unknown one."""
    return _INPUTS[name](material)


def _afn(material: Material) -> Tensor:
    return material.draw("afn", (3, _NODES, _FEATURES), 0, _UNIT_AFN)


def _noise(material: Material, scale: float = 1) -> dict[str, Tensor]:
    return {"noise": material.draw("G_noise", (3, 181, 1, 1), -1, 1) * scale, "afn": _afn(material) * scale}


def _pair(material: Material) -> dict[str, Tensor]:
    return {"a": material.draw("au_a", (3, _AU_SIZE)), "b": material.draw("au_b", (3, _AU_SIZE))}


def _pictures(material: Material) -> dict[str, Tensor]:
    gen = images(material, 256)[:2]
    return {"gen": gen, "tar": 0.7 * gen + 0.3 * material.draw("mrf_noise", (2, 3, 256, 256))}


def _embeddings(material: Material) -> dict[str, Tensor]:
    draw = material.draw
    return {"x": draw("TDC_x", (2, _NODES, _FEATURES), 0, _UNIT_AFN), "y": draw("TDC_y", (2, 1, 2048), -1, 1)}


_INPUTS: Mapping[str, Callable[[Material], dict[str, Tensor]]] = {
    "image": lambda material: {"image": images(material)},
    "image_first": lambda material: {"image": images(material)[:1]},
    "image_256": lambda material: {"image": images(material, 256)},
    "afn": lambda material: {"afn": _afn(material)},
    "noise": _noise,
    "noise_scaled": lambda material: _noise(material, 10),
    "conditioned": lambda material: {"image": images(material), "afn": _afn(material)},
    "conditioned_two": lambda material: {"image": images(material)[:2], "afn": _afn(material)[:2]},
    "pair": _pair,
    "pictures": _pictures,
    "embeddings": _embeddings,
}
_SAMPLES = 12  # discriminator inputs probed at once
_ROWS = (0, 2, 4, 6, 8)  # of a plane's nine: no texel of the map mixes two of them
_PLANES, _PLANE_ROWS = 3, 9


def columns_without_influence(replay: Replay) -> Tensor:
    """Indices of the feature columns that reach no texel of the discriminator's condition map.

    The map is linear in the features. Each probe sets one column in each of 15 separate rows, so that a plane's texels
    tell which of its columns came through: the half of the map around a row belongs to that row alone.
    """
    slots = [(plane, row) for plane in range(_PLANES) for row in _ROWS]
    columns = list(range(_FEATURES))
    groups = [columns[start : start + len(slots)] for start in range(0, _FEATURES, len(slots))]
    silent: list[int] = []
    for start in range(0, len(groups), _SAMPLES):
        chosen = groups[start : start + _SAMPLES]
        afn = torch.zeros(max(len(chosen), 2), _NODES, _FEATURES)  # a single sample is refused (defect D27)
        for sample, group in enumerate(chosen):
            for (plane, row), column in zip(slots, group, strict=False):
                afn[sample, plane * _PLANE_ROWS + row, column] = 1
        maps = replay("D", {"image": torch.zeros(len(afn), 3, 224, 224), "afn": afn})["cond_map"]
        for sample, group in enumerate(chosen):
            for (plane, row), column in zip(slots, group, strict=False):
                size = maps.shape[-2]
                first, last = (round((row + part) / _PLANE_ROWS * size) for part in (0.25, 0.75))
                if not maps[sample, plane, first:last].any():
                    silent.append(column)
    return torch.tensor(silent, dtype=torch.int32)
