"""Whether a recorded bound can be decided on this processor at all.

The bounds of coverage.json were set beside the recording. Another processor sums in another order, and where a value is
ill-conditioned (gradients of a random ResNet-50, normals of tiny triangles ten units away) rounding alone exceeds some
of them. What misses its bound is therefore held against the subject's own noise here, measured as everywhere else:
inputs moved by one ULP. A miss within c x that noise is `undecided`, never agreement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from parity.batch import Batch
from parity.conform_judge import Recipe
from parity.conform_report import Outcome, Vector
from parity.coverage import Rule, judge
from parity.noise import C
from parity.perturb import perturbed, perturbed_batch
from parity.subject import DetailSetup, Plan, Subject
from parity.trace import Trace

DRAWS = 3  # fewer than a noise floor's: too low a noise only leaves a miss a miss
ROUNDED = ("rel_max", "rel", "abs", "ids")  # the other metrics allow for rounding themselves, or for none
Figure = Callable[[str, Tensor, Tensor], float]
Build = Callable[[Any], Subject]


class NoisySubject:
    """A subject whose inputs are moved by one ULP on their way in; `draw` says how."""

    def __init__(self, subject: Subject, draw: int) -> None:
        self.name = subject.name
        self._subject, self._draw = subject, draw

    def trace(self, batch: Batch, plan: Plan) -> Trace:
        """As `Subject.trace`, on moved pixels."""
        return self._subject.trace(perturbed_batch(batch, self._draw), plan)

    def replay(self, stage: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """As `Subject.replay`, on moved inputs."""
        return self._subject.replay(stage, perturbed(inputs, self._draw))


def noisy_setup(setup: Any, draw: int) -> Any:
    """A detail setup whose given codes and surface are moved by one ULP; weights and files stay as they are."""
    if not isinstance(setup, DetailSetup):
        return setup
    moved: dict[str, Any] = perturbed({"expression_B50": setup.expression_B50}, draw)
    if setup.parameters_B236 is not None:
        moved |= perturbed({"parameters_B236": setup.parameters_B236}, draw)
    if setup.surface is not None:
        moved["surface"] = replace(setup.surface, **perturbed(vars(setup.surface), draw))
    return replace(setup, **moved)


def undecided(
    judged: Mapping[str, Vector],
    rules: Mapping[str, Rule],
    recipe: Recipe,
    around: Callable[[Build], Recipe],
    build: Build,
    say: Callable[[str], None],
) -> dict[str, Vector]:
    """Those of `judged` that miss their bound by no more than rounding explains, reworded with the noise found.

    Args:
        judged: outcomes by vector.
        rules: rule by vector.
        recipe: as it ran.
        around: makes a recipe around a builder of subjects.
        build: makes the subject of a setup.
        say: told before anything is measured.
    """
    missed = {
        name: float(vector.figure or 0.0)
        for name, vector in judged.items()
        if vector.outcome is Outcome.DISAGREES and vector.metric in ROUNDED and _over(vector)
    }
    if not missed:
        return {}
    say(f"{len(missed)} vectors miss their bound: measuring the rounding noise of this processor")
    noise = within_noise(
        missed, recipe, around, build, lambda name, clean, noisy: judge(rules[name], clean, noisy, None)[0]
    )
    note = "rounding on this processor: the subject moves by {:.1e} under one-ULP input noise; {}"
    return {
        name: replace(judged[name], outcome=Outcome.UNDECIDED, note=note.format(level, judged[name].note).rstrip("; "))
        for name, level in noise.items()
    }


def _over(vector: Vector) -> bool:
    """A registered discrepancy that vanished disagrees as well, but is not over its bound."""
    return vector.figure is not None and vector.bound is not None and vector.figure > vector.bound


def within_noise(
    missed: Mapping[str, float],
    clean: Recipe,
    around: Callable[[Build], Recipe],
    build: Build,
    figure: Figure,
) -> dict[str, float]:
    """Those of `missed` whose figure is at most c x the subject's own noise, with that noise.

    Args:
        missed: vector -> figure that exceeded its bound.
        clean: the recipe as it ran.
        around: makes a recipe around a builder of subjects.
        build: makes the subject of a setup.
        figure: metric of a vector between two computed values.
    """
    order = sorted(missed, key=lambda name: (clean.order(name), name))
    reference = {name: clean.compute(name).detach().cpu() for name in order}
    noise = dict.fromkeys(order, 0.0)
    for draw in range(DRAWS):
        open_cases = [name for name in order if missed[name] > C * noise[name]]
        if not open_cases:
            break
        noisy = around(lambda setup, draw=draw: NoisySubject(build(noisy_setup(setup, draw)), draw))  # type: ignore[misc]
        for name in open_cases:
            moved = figure(name, reference[name], noisy.compute(name).detach().cpu())
            noise[name] = max(noise[name], moved)
    return {name: level for name, level in noise.items() if missed[name] <= C * level}
