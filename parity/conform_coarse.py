"""Recipe of `vectors_coarse`: the coarse model on seeded weights and inputs (fixtures/conformance/coarse/README.md).

Four runs of one training step each; what a run records is read from its trace, the rest is replayed on the inputs the
README names. A parameter's slice is its first 6 elements and 10 evenly spaced ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from modern.assets import load_head
from parity.batch import seeded_batch
from parity.conform_coarse_table import (
    BASE,
    CODE_BOOKS,
    EXTRAS,
    KEYS_ENTRY,
    PROBE_VALUES,
    PROBES,
    REPLAYED,
    RUNS,
    TRACED,
)
from parity.conform_material import Material
from parity.subject import Plan, Setup, Subject
from parity.trace import Trace
from parity.weights import seeded_weights


class CoarseRecipe:
    """Computes coarse vectors; a trace and its subject are kept only until another run is asked for.

    Args:
        material: names, shapes and assets.
        build: makes the subject of a setup.
        device: where it runs.

    Raises:
        ConformError: if keys.json asks for other networks than this repository's.
        ValueError: if the assets are unusable.
    """

    face_ids: str | None = "render/pix_to_face"

    def __init__(self, material: Material, build: Callable[[Setup], Subject], device: str = "cpu") -> None:
        self._material, self._build, self._device = material, build, device
        self._weights = seeded_weights(material.prefix)
        for module, state in self._weights.items():
            material.check_weights(KEYS_ENTRY.get(module, module), state)
        cells = material.draw("assets/tex_dir_32", (32, 32, 3, 50), -12, 12)
        self._head = load_head(material.folder / "assets_coarse.npz", cells)
        self._batch = seeded_batch(material.prefix)
        self._parameters = list(material.keys["BiViT"])  # in the order of named_parameters
        self._run = ""
        self._cache: dict[str, Any] = {}

    def order(self, name: str) -> int:
        """Position of the run that yields vector `name`; the base run comes first."""
        run = name.partition("/")[0]
        return list(RUNS).index(run) if run in RUNS else 0

    def compute(self, name: str) -> Tensor:
        """The subject's value of vector `name`.

        Raises:
            KeyError: if the README has no such vector or the subject does not yield the tensor behind it.
        """
        group, _, item = name.partition("/")
        if name in TRACED:
            key, part = TRACED[name]
            return self._traced(BASE).tensors[key][part]
        if name in REPLAYED:
            stage, output, part = REPLAYED[name]
            return self._replayed(stage)[output][part]
        if group == "encode":
            book, _, code = item.partition("/")
            return self._traced(BASE).tensors[f"{CODE_BOOKS[book]}/{code}"]
        if group in RUNS:
            return self._step(group, item)
        if group == "loss":
            return self._loss_function(item)
        if group == "BiViT":
            return self._sum_of_squares(item)
        if name == "render/constant_factor":
            return self._harmonics_constants()
        raise KeyError(f"the coarse recipe knows no vector {name}")

    def _once(self, run: str, key: str, make: Callable[[], Any]) -> Any:
        """What `make` gives, or the error it raised, without doing it again while vectors of `run` are asked for.

        The subject and trace of another run go first: two at once would double the memory.
        """
        if self._run != run:
            self._cache.clear()
            self._run = run
        if key not in self._cache:
            try:
                self._cache[key] = make()
            except Exception as error:
                self._cache[key] = error
        if isinstance(value := self._cache[key], Exception):
            raise value.with_traceback(None)
        return value

    def _built(self, run: str) -> Subject:
        setup = Setup(
            weights=self._weights,
            head=self._head,
            overrides=RUNS[run].overrides,
            dropout=RUNS[run].dropout,
            device=self._device,
        )
        return self._once(run, "subject", lambda: self._build(setup))

    def _traced(self, run: str) -> Trace:
        plan = Plan(steps=1, term_gradients=RUNS[run].term_gradients, seed=0)
        return self._once(run, "trace", lambda: self._built(run).trace(self._batch, plan))

    def _replayed(self, stage: str) -> dict[str, Tensor]:
        """Outputs of a replay on the base run."""
        subject = self._built(BASE)
        return self._once(BASE, f"replay {stage}", lambda: self._replay(subject, stage, self._replay_inputs(stage)))

    def _replay(self, subject: Subject, stage: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        moved = {name: tensor.to(self._device) for name, tensor in inputs.items()}
        return {name: tensor.detach().cpu() for name, tensor in subject.replay(stage, moved).items()}

    def _replay_inputs(self, stage: str) -> dict[str, Tensor]:
        if stage == "flame":
            return self._four_heads()
        if stage in ("prediction", "gradients"):
            traced = self._traced(BASE).tensors
            tokens = {"afn": traced["action_units/afn"], "global_feature": traced["encoder/global_feature"]}
            return tokens if stage == "prediction" else {**tokens, "cotangent": 2 * self.compute("BiViT/out")}
        if stage == "shape_render":
            traced = self._traced(BASE).tensors
            mesh = {"vertices": traced["flame/vertices"], "projected": traced["projection/vertices"]}
            return {**mesh, "image": self._batch.image[1:2].clone()}
        return {"image": self._batch.image.clone()}

    def _four_heads(self) -> dict[str, Tensor]:
        draw = self._material.draw
        pose = draw("flame4/pose", (4, 6), -0.3, 0.3)
        pose[1, 1], pose[2, 1], pose[3, 1] = 0.5, -0.5, -1.0
        return {"shape": draw("flame4/shape", (4, 100), -1, 1), "exp": draw("flame4/exp", (4, 50), -1, 1), "pose": pose}

    def _harmonics_constants(self) -> Tensor:
        """[9] constants, read off the shading of one pixel whose light holds a single coefficient."""
        subject, constants = self._built(BASE), []
        for index, (normal, value) in enumerate(zip(PROBES, PROBE_VALUES, strict=True)):
            light = torch.zeros(1, 9, 3)
            light[:, index] = 1.0
            pixel = torch.tensor(normal, dtype=torch.float32).reshape(1, 3, 1, 1)
            shading = self._replay(subject, "shading", {"normal_images": pixel, "light": light})["shading_images"]
            constants.append(shading.flatten()[0] / value)
        return torch.stack(constants)

    def _loss_function(self, name: str) -> Tensor:
        draw = self._material.draw
        inputs = {"au": draw("loss/au", (1, 41))}
        for count in (68, 105):
            points = draw(f"loss/gt{count}", (2, count, 2), -1, 1)
            inputs[f"gt{count}"] = torch.cat([points, draw(f"loss/vis{count}", (2, count, 1))], dim=2)
            inputs[f"pred{count}"] = draw(f"loss/pred{count}", (2, count, 2), -1, 1)
        if name == "weighted_au_landmark_loss_b1":  # one clip, as its name says
            inputs = {key: tensor[:1] for key, tensor in inputs.items()}
        return self._replay(self._built(BASE), f"loss_function:{name}", inputs)["value"]

    def _sum_of_squares(self, item: str) -> Tensor:
        """Sum of squares of BiViT's output, and its gradient through the network (cotangent 2 x output)."""
        if item == "sumsq_loss":
            return (self.compute("BiViT/out") ** 2).sum()
        return self._per_parameter(item.removeprefix("sumsq_"), self._replayed("gradients"))

    def _step(self, run: str, item: str) -> Tensor:
        trace = self._traced(run)
        group, _, key = item.partition("/")
        if group in ("loss", "dloss_dours"):
            return trace.tensors[f"{'losses' if group == 'loss' else 'code_gradients'}/{key}"]
        if item in EXTRAS:
            name, part = EXTRAS[item]
            return trace.extras[name][part]
        if item in ("ours", "BiViT_out_after"):
            return trace.tensors["sequence/out" if item == "ours" else "prediction/out"]
        if item in ("grad_norms", "grad_slices"):
            return self._per_parameter(item, trace.stage("gradients"))
        after = {key: trace.tensors[f"adam/parameter/{key}"].cpu() for key in self._parameters}
        if item == "delta_norms":
            before = self._weights["BiViT"]
            return _norms([after[key].to(torch.float64) - before[key].to(torch.float64) for key in self._parameters])
        return self._per_parameter(item.replace("param_", "grad_").removesuffix("_after"), after)

    def _per_parameter(self, item: str, values: Mapping[str, Tensor]) -> Tensor:
        ordered = [values[key].cpu() for key in self._parameters]
        return {"grad_norms": _norms, "grad_slices": _slices}[item](ordered)


def _norms(tensors: list[Tensor]) -> Tensor:
    return torch.stack([tensor.to(torch.float64).norm() for tensor in tensors])


def _slices(tensors: list[Tensor]) -> Tensor:
    """[P,16] of each tensor: its first 6 elements, then 10 evenly spaced ones."""
    rows = []
    for tensor in tensors:
        flat = tensor.reshape(-1)
        rows.append(torch.cat([flat[:6], flat[torch.linspace(0, len(flat) - 1, 10).long()]]))
    return torch.stack(rows)
