"""The recorded runs of the detail stage, executed: subjects, traces and replays, one run at a time.

A full trace of two steps is over a gigabyte and its subject several, so what belongs to one run is dropped before the
next is built.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from parity import conform_detail_inputs as inputs
from parity.conform_detail_head import recorded_head
from parity.conform_detail_modules import module_inputs
from parity.conform_detail_table import BASE, MAPS, RUNS, TERMS, UNPASTED
from parity.conform_material import Material
from parity.subject import DetailSetup, Plan, Subject
from parity.trace import Trace

_NEEDED = ("E_flame", "E_detail", "D_detail", "D", "AUNet", "ACG", "VGG19")


class DetailRuns:
    """Builds the subject of a run when it is needed and asks it each thing once.

    Args:
        material: names, shapes and assets.
        build: makes the subject of a setup.
        device: where it runs.

    Attributes:
        seconds: what was done -> how long it took.

    Raises:
        ConformError: if keys.json is unusable.
    """

    def __init__(self, material: Material, build: Callable[[Any], Subject], device: str = "cpu") -> None:
        self._material, self._build, self._device = material, build, device
        self._weights = inputs.recorded_weights(material)
        self._codes = inputs.codes(material)
        self.batch = inputs.batch(material)
        self.seconds: dict[str, float] = {}
        self._run = ""
        self._cache: dict[str, Any] = {}

    def setup(self, run: str) -> DetailSetup:
        """How the subject of `run` is built; its head is made when it is first needed."""
        row = RUNS[run]
        weights = inputs.with_small_displacement(self._weights) if row.small_displacement else self._weights
        return DetailSetup(
            weights=weights if run == BASE else {module: weights[module] for module in _NEEDED},
            head=recorded_head(self._material) if row.head else None,
            expression_B50=self._codes["exp"],
            parameters_B236=inputs.encoder_output(self._codes),
            surface=None if row.head else inputs.synthetic_surface(self._material),
            overrides=row.overrides,
            device=self._device,
        )

    def trace(self, run: str) -> Trace:
        """What the subject yields on all steps of `run`."""
        plan = Plan(steps=RUNS[run].steps, term_gradients=True, seed=0)
        return self._once(run, "trace", lambda: self._built(run).trace(self.batch, plan))

    def term_gradients(self, run: str, term: str) -> dict[str, Tensor]:
        """Gradient of one loss term for every generator parameter: its gradient at uv_z, taken back from there."""
        if term not in TERMS:
            raise KeyError(f"no loss term {term}")
        traced = self.trace(run).tensors
        names = {"pose": "codes/pose", "exp": "codes/exp", "afn": "action_units/afn"}
        given = {name: traced[key] for name, key in names.items()}
        given |= {"image": self.batch.image, "cotangent": traced[f"map_gradients/{term}"]}
        subject = self._built(run)
        return self._once(run, f"term {term}", lambda: self._replay(subject, "g_gradients", given))

    def unpasted(self, run: str) -> Tensor:
        """[3,3,H,W] the texture seen by each pixel: what `final_image` is where the mask is one everywhere."""
        traced = self.trace(run).tensors
        given = {"uv_texture": traced["uv_texture/uv_texture"], "grid": traced["attributes/grid"]}
        given |= {"image": self.batch.image, "mask": torch.ones_like(self.batch.face_mask_BHW)}
        subject = self._built(run)
        return self._once(run, "unpasted", lambda: self._replay(subject, "final_image", given))["final_image"]

    def mrf(self, run: str) -> Tensor:
        """The disabled MRF term on the patches of step 0."""
        traced = self.trace(run).stage("patches")
        subject = self._built(run)
        return self._once(run, "mrf", lambda: self._replay(subject, "mrf_on_patches", traced))["mrf_unweighted"]

    def initial(self, run: str) -> Mapping[str, Mapping[str, Tensor]]:
        """The weights a run starts from."""
        return self.used_setup(run).weights

    def _once(self, run: str, key: str, make: Callable[[], Any]) -> Any:
        """What `make` gives, or the error it raised, without doing it again while vectors of `run` are asked for.

        What another run left goes first: two at once would double the memory.
        """
        if self._run != run:
            self._cache.clear()
            self._run = run
        if key not in self._cache:
            started = time.perf_counter()
            try:
                self._cache[key] = make()
            except Exception as error:
                self._cache[key] = error
            label = f"{run}: {key.partition(' ')[0]}"
            self.seconds[label] = self.seconds.get(label, 0.0) + time.perf_counter() - started
        if isinstance(value := self._cache[key], Exception):
            raise value.with_traceback(None)
        return value

    def used_setup(self, run: str) -> DetailSetup:
        """The setup the subject of `run` was built from."""
        return self._once(run, "setup", lambda: self.setup(run))

    def _built(self, run: str) -> Subject:
        setup = self.used_setup(run)
        return self._once(run, "subject", lambda: self._build(setup))

    def _replay(self, subject: Subject, stage: str, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        moved = {name: tensor.clone().to(self._device) for name, tensor in given.items()}
        return {name: tensor.detach().cpu() for name, tensor in subject.replay(stage, moved).items()}

    def replayed(self, stage: str, given: str) -> dict[str, Tensor]:
        """Outputs of a single module, asked once for each set of inputs."""
        return self._once(BASE, f"{stage} {given}", lambda: self.replay(stage, module_inputs(self._material, given)))

    def replay(self, stage: str, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs of a single module on any inputs."""
        return self._replay(self._built(BASE), stage, given)


class RunView:
    """One run as the figures see it: its trace by step, module and parameter.

    Args:
        runs: computes what the trace does not hold.
        run: which run.
    """

    def __init__(self, runs: DetailRuns, run: str) -> None:
        self.runs, self.run, self.steps = runs, run, RUNS[run].steps

    @property
    def trace(self) -> Trace:
        """The run's trace."""
        return self.runs.trace(self.run)

    def tensor(self, name: str, step: int = 0) -> Tensor:
        """A traced tensor of one step; raises KeyError."""
        return self.trace.tensors[f"{name}@{step}" if step else name]

    def extra(self, name: str, step: int = 0) -> Tensor:
        """A tensor outside the stage contract; raises KeyError."""
        return self.trace.extras[f"{name}@{step}" if step else name]

    def map(self, name: str) -> Tensor:
        """A map of step 0 by its recorded name; raises KeyError."""
        return self.runs.unpasted(self.run) if name == UNPASTED else self.tensor(MAPS[name])

    def texture_input(self, name: str) -> Tensor:
        """A map that the head or the synthetic surface brings along."""
        setup = self.runs.used_setup(self.run)
        value: Tensor = getattr(setup.head or setup.surface, name)
        return value.reshape(1, 1, *value.shape[-2:]) if name == "uv_face_eye_mask" else value

    def buffer(self, step: int, module: str, key: str) -> Tensor:
        """A running statistic after a step: AUNet's are outside the contract, ACG's inside."""
        return self.tensor(f"buffers/{module}/{key}", step) if module == "ACG" else self.extra(f"{module}/{key}", step)

    def gradient(self, step: int, when: str, module: str, key: str) -> Tensor:
        """The gradient of a parameter after one of the two backward passes of a step."""
        if (when, module) == ("after_D_backward", "D"):
            return self.tensor(f"d_gradients/{key}", step)
        if when == "after_G_backward" and module != "D":
            return self.tensor(f"g_gradients/{module}/{key}", step)
        return self.extra(f"{when}/{module}/{key}", step)

    def adam(self, step: int, what: str, module: str, key: str) -> Tensor:
        """`parameter`, `exp_avg` or `exp_avg_sq` after a step."""
        return self.tensor(f"d_adam/{what}/{key}" if module == "D" else f"g_adam/{what}/{module}/{key}", step)

    def updated(self, step: int, module: str, key: str) -> Tensor:
        """A parameter after a step; one whose traced gradient is nothing keeps the value it was given.

        Raises:
            KeyError: if the trace shows neither an update nor that there was no gradient.
        """
        try:
            return self.adam(step, "parameter", module, key)
        except KeyError:
            if self.gradient(step, "after_D_backward" if module == "D" else "after_G_backward", module, key).any():
                raise
            return self.runs.initial(self.run)[module][key]
