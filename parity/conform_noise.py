"""Whether a recorded bound can be decided on this processor at all.

The bounds of coverage.json were set beside the recording. Another processor sums in another order, and where a value is
ill-conditioned (gradients of a random ResNet-50, normals of tiny triangles ten units away) rounding alone exceeds some
of them. What misses its bound is therefore held against the subject's own noise here, measured as everywhere else:
inputs moved by one ULP. A miss within c x that noise is `undecided`, never agreement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from torch import Tensor

from parity.batch import Batch
from parity.noise import C
from parity.perturb import perturbed, perturbed_batch
from parity.subject import Plan, Setup, Subject
from parity.trace import Trace

DRAWS = 3  # fewer than a noise floor's: too low a noise only leaves a miss a miss
Figure = Callable[[str, Tensor, Tensor], float]


class Computes(Protocol):
    """The part of a recipe that is needed here."""

    def compute(self, name: str) -> Tensor:
        """The subject's value of a vector."""
        ...

    def order(self, name: str) -> int:
        """Sort key that puts vectors of one run beside each other."""
        ...


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


def within_noise(
    missed: Mapping[str, float],
    clean: Computes,
    recipe: Callable[[Callable[[Setup], Subject]], Computes],
    build: Callable[[Setup], Subject],
    figure: Figure,
) -> dict[str, float]:
    """Those of `missed` whose figure is at most c x the subject's own noise, with that noise.

    Args:
        missed: vector -> figure that exceeded its bound.
        clean: the recipe as it ran.
        recipe: makes a recipe around a builder of subjects.
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
        noisy = recipe(lambda setup, draw=draw: NoisySubject(build(setup), draw))  # type: ignore[misc]
        for name in open_cases:
            moved = figure(name, reference[name], noisy.compute(name).detach().cpu())
            noise[name] = max(noise[name], moved)
    return {name: level for name, level in noise.items() if missed[name] <= C * level}
