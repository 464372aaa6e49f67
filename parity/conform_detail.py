"""Recipe of `vectors_detail`: the detail stage on seeded weights and inputs (fixtures/conformance/detail/README.md).

Single modules are replayed on the inputs the README names. What a run records is read from its trace; gradients of
single loss terms and the disabled MRF term are replayed on tensors of that trace. Figures that a recording keeps in
its JSON (names `json/...`) are computed by `conform_detail_figures`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from parity.conform_detail_figures import figure
from parity.conform_detail_modules import columns_without_influence
from parity.conform_detail_runs import DetailRuns, RunView
from parity.conform_detail_table import (
    BASE,
    EVERY_EIGHTH_TEXEL,
    L2,
    L2_PER_SAMPLE,
    MODULES,
    RUNS,
    TRACED,
)
from parity.conform_material import Material
from parity.subject import Subject

_SLICE = 64


class DetailRecipe:
    """Computes detail vectors.

    Args:
        material: names, shapes and assets.
        build: makes the subject of a setup.
        device: where it runs.

    Raises:
        ConformError: if keys.json is unusable.
    """

    face_ids: str | None = None  # a recording holds none, so every texel and pixel is compared

    def __init__(self, material: Material, build: Callable[[Any], Subject], device: str = "cpu") -> None:
        self._material = material
        self._runs = DetailRuns(material, build, device)

    @property
    def seconds(self) -> Mapping[str, float]:
        """What was done -> how long it took."""
        return self._runs.seconds

    def order(self, name: str) -> int:
        """Position of the run that yields vector `name`; within a run, what only needs replays comes first."""
        run = _place(name)[0]
        return 2 * list(RUNS).index(run) + (not name.startswith("modules/")) if run in RUNS else 0

    def compute(self, name: str) -> Tensor:
        """The subject's value of vector `name`.

        Raises:
            KeyError: if the README has no such vector or the subject does not yield the tensor behind it.
        """
        run, item = _place(name)
        if run not in RUNS:
            raise KeyError(f"the detail recipe knows no vector {name}")
        if name.startswith("modules/"):
            return self._module(item)
        view = RunView(self._runs, run)
        return figure(view, item, self._material) if name.startswith("json/") else self._vector(view, item)

    def _module(self, item: str) -> Tensor:
        if item == "D/zero_influence_columns":
            return columns_without_influence(self._runs.replay)
        if item.startswith("AUNet/train/after/"):
            return self._runs.replayed("AUNet:train", "image")[item.removeprefix("AUNet/train/")]
        stage, given, output, part = MODULES[item]
        value = self._runs.replayed(stage, given)[output]
        if part == L2_PER_SAMPLE:
            return value.to(torch.float64).flatten(1).norm(dim=1)
        return value.to(torch.float64).norm() if part == L2 else value[part]

    def _vector(self, view: RunView, item: str) -> Tensor:
        group, _, rest = item.partition("/")
        if item in ("uv_face_eye_mask", "fixed_uv_dis"):
            return view.texture_input(item)
        if item == "masks_u8":
            return self._runs.batch.face_mask_BHW[:, None].to(torch.uint8)
        if item == "loss/mrf_unweighted":
            return self._runs.mrf(view.run)
        if item in TRACED:
            key, part = TRACED[item]
            return view.tensor(key)[part]
        if group in ("strided8", "sample0"):
            return view.map(rest)[EVERY_EIGHTH_TEXEL if group == "strided8" else slice(0, 1)]
        if group in ("codes", "loss"):
            return view.tensor(f"{'losses' if group == 'loss' else group}/{rest}")
        return self._of_parameters(view, group, rest)

    def _of_parameters(self, view: RunView, group: str, rest: str) -> Tensor:
        name, _, step = group.rpartition("step")
        if step.isdecimal() and name in ("", "weights_after_"):
            module, _, key = rest.partition("/")
            return _sliced(view.updated(int(step), module, key)) if name else view.buffer(int(step), module, key)
        if group == "grad_slice":
            return _sliced(view.gradient(0, *rest.split("/", 2)))
        if group == "by_loss":
            term, _, name = rest.partition("/")
            value = self._runs.term_gradients(view.run, term)[name.removesuffix("_slice").replace(".", "/", 1)]
            return _sliced(value) if name.endswith("_slice") else value
        raise KeyError(f"the detail recipe knows no vector {view.run}/{group}/{rest}")


def _place(name: str) -> tuple[str, str]:
    """The run that yields a vector, and the vector's name inside it."""
    if name.startswith("modules/"):
        return BASE, name.removeprefix("modules/")
    run, _, item = name.removeprefix("json/").partition("/")
    return run, item


def _sliced(tensor: Tensor) -> Tensor:
    """64 evenly spaced elements, as the recording keeps them."""
    flat = tensor.reshape(-1)
    return flat[:: max(1, flat.numel() // _SLICE)][:_SLICE]
