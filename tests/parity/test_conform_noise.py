"""A miss is `undecided` only where the subject's own rounding noise explains it."""

import pytest
import torch

from parity.batch import seeded_batch
from parity.conform_noise import NoisySubject, within_noise
from parity.conform_report import ConformReport, Outcome, SubjectReport, Vector
from parity.noise import C
from parity.subject import Plan


class Subject:
    """`steep` multiplies its input's rounding by a million, `calm` passes it on."""

    name = "subject"

    def trace(self, batch, plan):
        return batch.image

    def replay(self, stage, inputs):
        offset = inputs["x"] - torch.linspace(0.1, 1, 100)
        return {"steep": offset * 1e6 + 1, "calm": offset + 1}


class Recipe:
    def __init__(self, build):
        self.subject, self.asked = build(None), []

    def order(self, name):
        return 0

    def compute(self, name):
        self.asked.append(name)
        return self.subject.replay("any", {"x": torch.linspace(0.1, 1, 100)})[name]


def largest(name, clean, noisy):
    return float((clean - noisy).abs().max())


def explained(missed):
    build = lambda setup: Subject()  # noqa: E731
    return within_noise(missed, Recipe(build), Recipe, build, largest)


def test_a_miss_within_the_noise_is_explained_with_that_noise():
    noise = explained({"steep": 0.05})
    assert set(noise) == {"steep"}
    assert 0.05 / C <= noise["steep"] <= 1.0


@pytest.mark.parametrize("missed", [{"steep": 10.0}, {"calm": 1e-3}, {"calm": float("inf")}])
def test_a_larger_miss_stays_a_miss(missed):
    assert explained(missed) == {}


def test_a_not_a_number_is_never_explained():
    assert explained({"steep": float("nan")}) == {}


def test_nothing_missed_costs_nothing():
    assert within_noise({}, Recipe(lambda setup: Subject()), None, None, largest) == {}


def test_a_noisy_subject_moves_pixels_and_leaves_the_batch_alone():
    batch = seeded_batch()
    before = batch.image.clone()
    moved = NoisySubject(Subject(), 0).trace(batch, Plan())
    assert torch.equal(batch.image, before)
    assert not torch.equal(moved, before)
    assert (moved - before).abs().max() <= 2**-24


def part(*words, problem=""):
    vectors = tuple(Vector(name=f"v{index}", outcome=word) for index, word in enumerate(words))
    return SubjectReport(subject="modern", vectors=vectors, problem=problem)


@pytest.mark.parametrize(
    ("parts", "code", "only"),
    [
        ([part(Outcome.AGREES, Outcome.UNDECIDED)], 2, True),
        ([part(Outcome.AGREES, Outcome.UNDECIDED), part(Outcome.AGREES)], 2, True),
        ([part(Outcome.AGREES, Outcome.UNDECIDED, Outcome.NOT_COMPUTED)], 2, False),
        ([part(Outcome.AGREES, Outcome.UNDECIDED, Outcome.DISAGREES)], 1, False),
        ([part(Outcome.AGREES, Outcome.UNDECIDED), part(problem="killed")], 2, False),
        ([part(Outcome.AGREES)], 0, False),
    ],
)
def test_undecided_is_no_agreement(parts, code, only):
    report = ConformReport(folder="f", device="cpu", subjects=tuple(parts))
    assert (report.exit_code, report.only_undecided) == (code, only)
