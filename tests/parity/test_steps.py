"""Many steps: noise must not be called a bug, nor a bug noise, and no number is judged where noise has saturated."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from parity.steps import run as running
from parity.steps.arms import FIRST_STEPS, Arm, arms
from parity.steps.curve import extended, positions, read_curve, started, write_curve
from parity.steps.distance import FIGURES, Distance, distance
from parity.steps.judge import growth, horizon, judge_run, told
from parity.verdict import Verdict


def arm(weights, length=None, equal=None, loss=None, codes=None):
    """A distance with the given figures; what is not given is as small as rounding."""
    count = len(weights)
    figures = {"weights": list(weights), "length": length or [1e-9] * count}
    figures |= {"loss": loss or [1e-7] * count, "codes": codes or [1e-7] * count}
    return Distance(equal=equal or [False] * count, figures=figures, first_unequal="step 1: w")


NOISE = {
    "a": arm([1e-5, 3e-5, 1e-3, 0.03, 0.05, 0.3, 0.5, 0.8, 0.8, 0.8]),
    "b": arm([2e-5, 2e-5, 2e-3, 0.01, 0.06, 0.2, 0.6, 0.8, 0.8, 0.8]),
}


def test_equal_runs_are_identical_through_the_last_step_however_many():
    same = arm([0.0] * 10, equal=[True] * 10)
    found = judge_run(same, NOISE, resolved=False)
    assert (found.verdict, found.sentence) == (Verdict.IDENTICAL, "identical through step 10")


def test_noise_is_no_bug():
    found = judge_run(arm([4e-5, 5e-5, 5e-3, 0.1, 0.2, 0.9, 0.9, 0.9, 0.9, 0.9]), NOISE, resolved=True)
    assert found.verdict is Verdict.ROUNDING
    assert [step.verdict for step in found.steps[FIRST_STEPS:]] == [Verdict.NOT_EXERCISED] * 5


@pytest.mark.parametrize("step", range(FIRST_STEPS))
def test_a_bug_at_any_of_the_first_steps_is_told(step):
    weights = [1e-5, 3e-5, 1e-3, 0.03, 0.05, *[0.5] * 5]
    weights[step] *= 1000
    found = judge_run(arm(weights), NOISE, resolved=True)
    assert found.verdict is Verdict.DRIFT
    assert f"step {step + 1}" in found.sentence


def test_a_bug_beyond_the_first_steps_is_not_told_from_chaos_by_numbers():
    weights = [1e-5, 3e-5, 1e-3, 0.03, 0.05, *[1e6] * 5]
    assert judge_run(arm(weights), NOISE, resolved=True).verdict is Verdict.ROUNDING


def test_a_wrong_step_length_is_told_where_the_distance_is_not():
    bug = arm([2e-5] * 10, length=[1e-4] * 10)
    step = told(bug, NOISE)
    assert step
    assert (step.number, step.verdict) == (1, Verdict.DRIFT)
    assert "length" in step.reason
    assert told(arm([2e-5] * 10), NOISE) is None


def test_saturated_noise_ends_the_judging_early_or_forbids_it():
    loud = {"a": arm([1e-3, 0.02, 0.5, *[0.9] * 7])}
    assert horizon(loud) == 2
    found = judge_run(arm([1e-3, 0.02, 1e3, *[1e3] * 7]), loud, resolved=True)
    assert found.verdict is Verdict.ROUNDING
    deaf = {"a": arm([0.3] * 10)}
    assert judge_run(arm([100.0] * 10), deaf, resolved=True).verdict is Verdict.NOT_EXERCISED


def test_being_within_noise_is_worth_nothing_if_no_planted_bug_was_told():
    found = judge_run(arm([1e-5] * 10), NOISE, resolved=False)
    assert found.verdict is Verdict.NOT_EXERCISED
    assert "proves nothing" in found.sentence


def test_without_noise_arms_no_number_is_judged():
    assert judge_run(arm([1e-9] * 3), {}, resolved=True).verdict is Verdict.NOT_EXERCISED


@given(st.floats(1.1, 5), st.floats(1e-9, 1e-6))
def test_growth_finds_the_factor_and_the_step_of_saturation(factor, start):
    steps = math.ceil(math.log(0.8 / start) / math.log(factor))
    values = [min(start * factor**step, 0.8) for step in range(steps + max(steps // 3, 4))]
    found = growth(values)
    assert found.factor == pytest.approx(factor, rel=0.35)
    assert found.saturates_at is not None
    assert abs(found.saturates_at - math.log(0.4 / start) / math.log(factor)) <= 2


def test_growth_says_nothing_of_equal_runs_and_of_what_still_rises():
    assert growth([0.0] * 20) == growth([])
    assert growth([0.0] * 20).factor is None
    assert growth([1e-6 * 2**step for step in range(10)]).saturates_at is None


class Loop:
    """A tiny training loop with the interface of a subject's."""

    def __init__(self):
        torch.manual_seed(1)
        net = nn.Sequential(nn.Linear(6, 700), nn.Tanh(), nn.Linear(700, 3))
        self.networks, self.coder, self._net = {"net": net}, net, net
        self.optimizers = {"adam": torch.optim.Adam(net.parameters(), lr=1e-3)}

    def step(self, batch, number):
        x = batch + 0.01 * torch.rand(batch.shape)  # a draw, so that a resume must put the generator back
        loss = self._net(x).square().mean()
        self.optimizers["adam"].zero_grad()
        loss.backward()
        self.optimizers["adam"].step()
        return {"losses/all_loss": loss.detach()}

    def trained(self):
        return dict(self._net.named_parameters())


class Subject:
    def quick(self, pixels):
        from contextlib import nullcontext

        return nullcontext()

    def bare(self):
        from contextlib import nullcontext

        return nullcontext(Loop())


@pytest.fixture
def spec(monkeypatch):
    batch = torch.rand(16, 6, generator=torch.Generator().manual_seed(2))
    monkeypatch.setattr(running.worker, "_subject", lambda *_: Subject())
    monkeypatch.setattr(running.worker, "batch_of", lambda _: batch)
    return running.RunSpec(batch="tiny")


REFERENCE = Arm(name="legacy", subject="legacy", kind="reference")


def run(spec, folder, arm=REFERENCE, steps=12):
    return read_curve(running.run_arm(spec, arm, steps, 56, folder))


def test_an_interrupted_run_goes_on_to_the_same_bytes(spec, tmp_path, monkeypatch):
    whole = run(spec, tmp_path / "whole")
    calls = []
    original = Loop.step

    def interrupted(self, batch, number):
        calls.append(number)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return original(self, batch, number)

    monkeypatch.setattr(Loop, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(spec, tmp_path / "part")
    assert running.done(tmp_path / "part") == 8
    again = run(spec, tmp_path / "part")
    assert calls[9:] == list(range(5, 12))  # from the checkpoint after step 5
    assert distance(again, whole).identical_through == 12
    assert [path.name for path in (tmp_path / "part").iterdir() if "state" in path.name] == []


def test_a_finished_run_is_not_repeated_and_a_longer_one_is_run(spec, tmp_path, monkeypatch):
    run(spec, tmp_path)
    assert run(spec, tmp_path, steps=14).steps == 14
    monkeypatch.setattr(Loop, "step", None)
    assert run(spec, tmp_path, steps=9).steps == 14


@pytest.mark.parametrize(
    "bug", [control for control in arms(3) if control.kind == "control"], ids=lambda control: control.name
)
def test_planted_optimizer_bugs_are_told_from_noise_by_the_way_trained(spec, tmp_path, bug):
    reference = run(spec, tmp_path / "reference")
    one = Arm(name="one weight", subject="legacy", kind="noise", weight=True)
    noise = {"one weight": distance(run(spec, tmp_path / "noise", one), reference)}
    assert not noise["one weight"].equal[0]
    assert told(distance(run(spec, tmp_path / "bug", bug), reference), noise)


def test_equal_runs_have_no_distance_and_unequal_ones_say_where(spec, tmp_path):
    a, b = run(spec, tmp_path / "a"), run(spec, tmp_path / "b")
    found = distance(a, b)
    assert found.identical_through == 12
    assert all(value == 0 for name in FIGURES for value in found.figures[name])
    faster = Arm(name="lr", subject="legacy", kind="control", settings=(("lr", 1.5),))
    other = distance(run(spec, tmp_path / "c", faster), a)
    assert other.first_unequal.startswith("step 1: ")
    assert other.figures["length"][0] == pytest.approx(0.5, rel=1e-3)
    assert other.figures["weights"][0] == pytest.approx(0.5, rel=1e-3)


def test_runs_of_different_pipelines_are_refused():
    def of(key):
        weights = {key: torch.ones(3)}
        return extended(started(weights), {"losses/all_loss": torch.ones(())}, torch.ones(2), weights)

    a, b = of("x"), of("y")
    with pytest.raises(ValueError, match="share no trained tensor"):
        distance(a, b)


def test_a_curve_survives_the_disk(tmp_path):
    curve = started({"x": torch.randn(2000), "y": torch.randn(3)})
    curve = extended(
        curve, {"losses/all_loss": torch.tensor(0.1)}, torch.randn(5), {"x": torch.ones(2000), "y": torch.ones(3)}
    )
    write_curve(curve, tmp_path / "c.safetensors")
    found = read_curve(tmp_path / "c.safetensors")
    assert found.digests == curve.digests
    assert torch.equal(torch.stack(found.weights), torch.stack(curve.weights))
    assert (found.names, found.keys, found.counts) == (curve.names, curve.keys, curve.counts)


@given(st.integers(1, 5000))
def test_the_sample_holds_both_ends_and_nothing_twice(count):
    found = positions(count).tolist()
    assert found[0] == 0
    assert found[-1] == count - 1
    assert len(set(found)) == len(found)
