"""Modern as a subject of the audit."""

import pytest
import torch

from parity.batch import seeded_batch
from parity.coarse_stages import COARSE
from parity.environment import isolated_numerics
from parity.modern_subject import build_modern
from parity.stages import batch_tensors, stage_inputs
from parity.subject import Plan, Setup


@pytest.fixture(scope="module")
def subject(head, weights):
    return build_modern(Setup(weights=weights, head=head))


@pytest.mark.slow
def test_each_stage_replays_to_the_same_bytes_and_a_trace_leaves_no_mark(subject, weights):
    batch = seeded_batch()
    with isolated_numerics(threads=1):
        first = subject.trace(batch, Plan(steps=1))
        second = subject.trace(batch, Plan(steps=1, term_gradients=False))
        world = first.tensors | batch_tensors(batch)
        unequal = [
            f"{stage.name}/{name}"
            for stage in COARSE.stages
            if stage.name not in ("adam", "prediction")
            for name, value in subject.replay(stage.name, stage_inputs(stage, world)).items()
            if not torch.equal(value, first.tensors[f"{stage.name}/{name}"])
        ]
    assert not unequal
    assert all(torch.equal(value, first.tensors[key]) for key, value in second.tensors.items())


@pytest.mark.slow
def test_replayed_update_is_the_traced_one(subject, weights):
    with isolated_numerics(threads=1):
        trace = subject.trace(seeded_batch(), Plan(steps=1, term_gradients=False))
        inputs = {"step": torch.tensor(0)}
        for key, gradient in trace.stage("gradients").items():
            inputs |= {f"parameter/{key}": weights["BiViT"][key], f"gradient/{key}": gradient}
            inputs |= {f"{moment}/{key}": torch.zeros_like(gradient) for moment in ("exp_avg", "exp_avg_sq")}
        updated = subject.replay("adam", inputs)
    assert all(torch.equal(value, updated[key]) for key, value in trace.stage("adam").items())


def test_unknown_override_and_stage_are_refused(head, weights, subject):
    with pytest.raises(ValueError, match=r"loss\.lmkk"):
        build_modern(Setup(weights=weights, head=head, overrides={"loss.lmkk": 1}))
    with pytest.raises(KeyError):
        subject.replay("nonsense", {})
