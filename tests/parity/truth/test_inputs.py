"""Paired inputs: reproducible, a few percent apart, valid; and what must run before a stage."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parity.pipelines import PIPELINES
from parity.truth.errors import distance, grouped, same_bytes
from parity.truth.inputs import AMOUNT, clip_of_input, jittered, mid_run, needed


@given(st.integers(0, 2**31))
def test_a_jittered_image_is_an_image_a_few_percent_away(seed):
    image = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(seed))
    image[0, 0, 0] = 0.0
    found = jittered(image, torch.Generator().manual_seed(seed + 1))
    assert image.min() <= found.min()
    assert found.max() <= image.max()
    assert found[0, 0, 0] == 0
    assert ((found - image).abs() <= (2 * AMOUNT + AMOUNT**2 + 1e-6) * image).all()
    assert not torch.equal(found, image)


def test_input_0_is_the_recording_and_others_differ_reproducibly():
    batch = {
        name: torch.rand(3, 3, 8, 8) for name in ("batch/image", "batch/landmark", "batch/mask", "batch/face_mask")
    }
    batch["batch/centre"] = batch["batch/image"][1:2]
    first, second, again = (clip_of_input(batch, index) for index in (0, 1, 1))
    assert all(torch.equal(first[name], batch[name]) for name in batch)
    assert all(torch.equal(second[name], again[name]) for name in batch)
    assert torch.equal(second["batch/centre"], second["batch/image"][1:2])
    for name in ("batch/mask", "batch/face_mask"):
        assert torch.equal(second[name], batch[name])
    for name in ("batch/image", "batch/landmark"):
        assert not torch.equal(second[name], batch[name])


def test_an_update_runs_with_moments():
    inputs = {"gradient/w": torch.rand(4), "exp_avg/w": torch.zeros(4), "exp_avg_sq/w": torch.zeros(4)}
    found = mid_run(inputs | {"parameter/w": torch.rand(4), "step": torch.tensor(0)}, 1)
    assert found["step"] == 3
    assert (found["exp_avg/w"] > 0).all()
    assert (found["exp_avg_sq/w"] > 0).all()
    assert torch.equal(found["gradient/w"], inputs["gradient/w"])


@pytest.mark.parametrize("pipeline", PIPELINES.values(), ids=PIPELINES)
def test_what_a_stage_needs_runs_before_it(pipeline):
    for stage in pipeline.stages:
        before = needed(pipeline, (stage.name,))
        assert before[-1] == stage.name
        for name in before:
            assert set(needed(pipeline, (name,))) <= set(before)
    assert needed(pipeline, pipeline.names) == pipeline.names


def test_parameters_are_taken_together_and_outputs_apart():
    coarse = PIPELINES["coarse"]
    assert grouped(coarse, "adam", ["exp_avg/a", "exp_avg/b", "parameter/a"]) == {
        "exp_avg": ["exp_avg/a", "exp_avg/b"],
        "parameter": ["parameter/a"],
    }
    assert grouped(coarse, "gradients", ["a", "b"]) == {"gradient": ["a", "b"]}
    assert grouped(coarse, "flame", ["vertices", "landmarks2d"]).keys() == {"vertices", "landmarks2d"}


def test_distance_is_over_all_tensors_and_absolute_where_truth_is_zero():
    truth = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([4.0])}
    found = {"a": torch.tensor([3.0, 0.5]), "b": torch.tensor([4.0])}
    assert distance(truth, found, ["a", "b"]) == 0.1
    assert distance({"a": torch.zeros(2)}, {"a": torch.tensor([3.0, 4.0])}, ["a"]) == 5


@pytest.mark.parametrize("bad", [torch.zeros(3), torch.tensor([1.0, torch.nan])])
def test_another_shape_or_no_number_is_refused(bad):
    with pytest.raises(ValueError, match=r"shape|finite"):
        distance({"a": torch.ones(2)}, {"a": bad}, ["a"])


def test_same_bytes_tells_signed_zeros_and_types_apart():
    zero, minus = {"a": torch.zeros(2)}, {"a": -torch.zeros(2)}
    assert same_bytes(zero, zero, ["a"])
    assert not same_bytes(zero, minus, ["a"])
    assert not same_bytes(zero, {"a": torch.zeros(2).double()}, ["a"])
    assert not same_bytes({"a": torch.tensor(0.0)}, {"a": torch.tensor(-0.0)}, ["a"])
    assert same_bytes({"a": torch.tensor(torch.nan)}, {"a": torch.tensor(torch.nan)}, ["a"])
