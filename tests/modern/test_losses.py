import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fixtures import seeded
from modern.config import CoarseConfig, LossConfig, ModelConfig
from modern.losses import action_units, deca, landmarks, photometric, regularisation
from modern.losses.table import COARSE_TERMS, TABLES


def points(name, count, batch=2):
    xy = seeded.uniform(f"{name}{count}", (batch, count, 2), -1, 1)
    return torch.cat([xy, seeded.uniform(f"{name}{count}/c", (batch, count, 1), 0.1, 1)], dim=2)


DISTANCES = [
    (landmarks.weighted_l1, 68),
    (landmarks.dense_eye_distance, 105),
    (landmarks.dense_lip_distance, 105),
    (landmarks.relative_landmark, 68),
    (action_units.au_distance, 68),
    (deca.eye_distance, 68),
    (deca.lip_distance, 68),
]


@pytest.mark.parametrize(("function", "count"), DISTANCES, ids=lambda value: getattr(value, "__name__", value))
def test_distances_are_zero_at_equality_only_and_leave_inputs_alone(function, count):
    gt, other = points("a", count), points("b", count)
    kept = gt.clone()
    assert function(gt[..., :2], gt) == 0
    assert function(other[..., :2], gt) > 0
    assert torch.equal(gt, kept)


@given(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
def test_weighted_l1_of_a_shift_is_its_mean_size(dx, dy):
    gt = points("a", 68)
    shifted = gt[..., :2] + torch.tensor([dx, dy])
    expected = torch.tensor((abs(dx) + abs(dy)) / 2)
    torch.testing.assert_close(
        landmarks.weighted_l1(shifted, gt, landmarks.CONTOUR_WEIGHTS_68), expected, atol=1e-6, rtol=1e-5
    )


def test_weights_pick_the_contour_and_the_emphasised_points():
    contour, dense = landmarks.CONTOUR_WEIGHTS_68, landmarks.DENSE_WEIGHTS_105
    assert contour[17:].sum() == 0
    assert contour[[0, 5, 16]].tolist() == [1.5, 3.0, 1.5]
    assert dense[[0, 21, 24]].tolist() == [1.5, 3.0, 2.0]
    gt = points("a", 68)
    inner_moved = gt[..., :2].clone()
    inner_moved[:, 17:] += 1
    assert landmarks.weighted_l1(inner_moved, gt, contour) == 0


def test_au_weights_follow_the_active_units():
    none = action_units.au_landmark_weights(torch.zeros(1, 41))
    assert none[0, 0] == 1
    assert none[0, 65] == pytest.approx(1 / 5)  # outer lip
    both = torch.zeros(2, 41)
    both[0, 2] = 0.5  # brow lowerer, exactly at the threshold
    both[1, 6] = 0.9  # nose wrinkler
    weights = action_units.au_landmark_weights(both)
    assert weights[0, 0] == pytest.approx(5 / 20)
    assert weights[1, 0] == 1
    assert weights[1, 52] == pytest.approx(5 / 13)
    later_wins = torch.zeros(1, 41)
    later_wins[0, [2, 0]] = 1  # whole brows, then inner brows
    assert action_units.au_landmark_weights(later_wins)[0, [0, 1]].tolist() == pytest.approx([5 / 20, 5 / 12])


def test_photometric_reads_only_unmasked_pixels():
    image, mask = torch.rand(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    assert photometric.photometric(image + 1, image, mask) == 0
    torch.testing.assert_close(photometric.photometric(image + 1, image, mask + 2), torch.tensor(2.0))


def test_regularisers():
    assert regularisation.half_sum_of_squares(torch.full((2, 3), 2.0)) == 12
    assert regularisation.grey_light(torch.ones(1, 9, 3)) == 0
    assert regularisation.jaw_close(torch.tensor([[0.5, 9.0, 9.0]])) == 0
    assert regularisation.jaw_close(torch.tensor([[-2.0, 9.0, 9.0]])) == 2
    assert regularisation.jaw_roll(torch.tensor([[9.0, 9.0, 2.0]])) == 2


def test_erosion_shrinks_and_clears_the_border():
    image = torch.ones(1, 1, 9, 9)
    assert deca.eroded(image).sum() == 25
    image[0, 0, 4, 4] = 0
    assert deca.eroded(image).sum() == 0


SHIPPED_TERMS = [
    "AUFLoss", "landmark_dense_loss", "eye_distance", "landmark", "relative_landmark", "photometric_texture",
    "expression", "expression_reg_self", "tex_reg", "light_reg", "jaw_pose_reg_self",
]  # fmt: skip


def active(config):
    return [term.name for term in TABLES[config.loss.table] if term.active(config)]


def test_shipped_terms_and_order():
    assert active(CoarseConfig()) == SHIPPED_TERMS


def test_switches_bring_terms_in():
    focal = active(CoarseConfig(loss=LossConfig(au_focal=True, lip_distance=1.0, reg_shape=1e-4)))
    assert focal[:4] == ["AUFLoss", "au_lmk_loss", "au_dist_loss", "au_loss"]
    assert {"lip_distance", "shape_reg_self"} <= set(focal)
    weighted = active(CoarseConfig(loss=LossConfig(au_weighted=True, au_focal=True)))
    assert "au_dist_loss" not in weighted
    euler = active(CoarseConfig(model=ModelConfig(jaw="euler")))
    assert euler[-2:] == ["reg_jawpose_roll", "reg_jawpose_close"]


def test_fix_d12_changes_the_weight_only():
    loss = LossConfig(emotion=7.0, action_unit_feature=1.5)
    (term,) = [term for term in COARSE_TERMS if term.name == "AUFLoss"]
    assert term.weight(CoarseConfig(loss=loss)) == 7.0
    assert term.weight(CoarseConfig(loss=loss, fixes=frozenset({"D12"}))) == 1.5
