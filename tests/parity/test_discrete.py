"""Flips at a boundary against flips that are real: margins decide, and noise decides how wide a margin may be."""

import pytest
import torch

from parity.discrete import compare_choices, compare_named, compare_stage, edge_margins
from parity.noise import Floor, isolated_floor
from parity.verdict import Verdict, judge


def raster(shift=0.0, size=24):
    """Two columns of faces that meet at x = 0.5, sampled at pixel centres moved by `shift`; barycentrics along x."""
    x = (torch.arange(size) + 0.5) / size + shift
    across = x.expand(size, size)
    ids = (across > 0.5).to(torch.int64)
    inside = torch.where(ids == 1, across - 0.5, 0.5 - across)
    return {"face_ids": ids, "barycentric": torch.stack([inside, 0.4 * (1 - inside), 0.6 * (1 - inside)], dim=-1)}


def at_boundary():
    """The same picture with the boundary on a column of pixels: 1e-9 to the left or to the right of it."""
    edge = -0.5 / 24
    return raster(edge + 1e-7), raster(edge - 1e-7)


def test_a_flip_at_an_edge_has_a_small_margin():
    left, right = at_boundary()
    drift = compare_stage("raster", left, right, "face_ids")
    assert drift.differing == 24
    assert 0 < drift.margin < 1e-6


def test_a_flip_inside_a_face_has_a_large_margin():
    left, _ = at_boundary()
    wrong = {name: value.clone() for name, value in left.items()}
    wrong["face_ids"][3, 20] = 0
    drift = compare_stage("raster", left, wrong, "face_ids")
    assert drift.differing == 1
    assert drift.margin > 0.1


def test_noise_decides_which_flips_are_at_a_boundary():
    left, right = at_boundary()
    outputs = iter([left, right])
    floors = isolated_floor(lambda *_: next(outputs), "raster", {}, range(1))
    floor = floors["raster/face_ids"]
    assert floor.margin == compare_stage("raster", left, right, "face_ids").margin
    assert judge(compare_stage("raster", right, left, "face_ids"), floor)[0] is Verdict.ROUNDING
    wrong = {name: value.clone() for name, value in left.items()}
    wrong["face_ids"][3, 20] = 0  # one flip, where 24 are noise
    verdict, reason = judge(compare_stage("raster", left, wrong, "face_ids"), floor)
    assert verdict is Verdict.DRIFT
    assert "margin" in reason


def test_without_margins_the_number_alone_is_judged_and_that_is_said():
    ids, other = torch.tensor([1, 2, 3]), torch.tensor([1, 2, 4])
    for drift in (compare_choices(ids, other), compare_named("a/b", {"a/b": ids}, {"a/b": other})):
        verdict, reason = judge(drift, Floor(0.0, 0.0, 1))
        assert verdict is Verdict.ROUNDING
        assert "not available" in reason
    alone = {"raster/face_ids": ids.expand(2, 3)}
    assert compare_named("raster/face_ids", alone, {"raster/face_ids": other.expand(2, 3)}).margin is None


def test_later_steps_have_their_own_barycentrics():
    left, right = at_boundary()
    sides = [{f"raster/{name}@2": value for name, value in side.items()} for side in (left, right)]
    assert compare_named("raster/face_ids@2", *sides).margin < 1e-6


def test_silhouettes_count_the_side_that_has_a_face():
    ids, weights = torch.tensor([[3]]), torch.tensor([[[0.2, 0.3, 0.5]]])
    nothing, none = torch.tensor([[-1]]), torch.full((1, 1, 3), -1.0)
    assert float(edge_margins((ids, weights), (nothing, none))) == pytest.approx(0.2)
    assert float(edge_margins((nothing, none), (nothing, none))) == 0


def test_margins_that_cannot_be_used():
    ids, other = torch.tensor([1, 2, 3]), torch.tensor([1, 2, 4])
    with pytest.raises(ValueError, match="margins of shape"):
        compare_choices(ids, other, torch.zeros(2))
    assert compare_choices(ids, other, torch.tensor([0.0, 0.0, torch.nan])).margin == torch.inf
    assert compare_choices(ids, ids.clone(), torch.zeros(3)).margin is None
    assert compare_choices(ids, torch.zeros(2), torch.zeros(3)).structural
