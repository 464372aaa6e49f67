"""The rules of coverage.json and the metrics they name."""

from pathlib import Path

import pytest
import torch

from parity.coverage import ConformError, Rule, judge, load_rules, rule_for

RECORDED = Path(__file__).parents[2] / "fixtures" / "conformance"
COARSE, DETAIL = RECORDED / "coarse" / "coverage.json", RECORDED / "detail" / "coverage.json"


def test_the_first_matching_rule_wins():
    rules = load_rules(COARSE)
    assert rule_for("f64/loss/eyed_loss", rules).metric == "info"
    assert rule_for("step_eval/loss/AUFLoss", rules).bound == 1e-4
    assert rule_for("step_eval/loss/landmark", rules).bound == 1e-5
    assert rule_for("render/normals", rules).metric == "rel_max"
    assert rule_for("render/images", rules).metric == "raster"
    assert rule_for("alt_focal/lmk_dense_col2_after", rules).subjects == ("legacy",)


def test_parameters_are_bounded_by_the_learning_rate_of_their_optimizer():
    rules = load_rules(DETAIL)
    bounds = {
        "step_synth/weights_after_step0/E_detail/conv1.weight": 2 * 5e-6,
        "step_synth/weights_after_step0/D/model.0.weight": 2 * 1e-4,
        "step_synth/weights_after_step1/D_detail/lin.bias": 4 * 5e-6,
        "step_synth/weights_after_step1/D/l1.bias": 4 * 1e-4,
    }
    assert {name: rule_for(name, rules).bound for name in bounds} == pytest.approx(bounds)
    chosen = rule_for("step_synth/weights_after_step0/D_detail/lin.bias", rules)
    recorded = torch.full((3,), 0.1)
    assert judge(chosen, recorded, recorded + 1e-5, None)[1]  # exactly two steps, but for the rounding of 0.1 + 1e-5
    assert not judge(chosen, recorded, recorded + 1.01e-5, None)[1]


def test_a_rule_without_a_bound_is_refused(tmp_path):
    path = tmp_path / "coverage.json"
    path.write_text('{"rules": [{"pattern": ".", "subjects": ["legacy"], "metric": "abs", "bound": null}]}')
    with pytest.raises(ConformError, match="gives no bound"):
        load_rules(path)


def rule(metric, bound):
    return Rule(pattern=".", subjects=("modern",), metric=metric, bound=bound, note="")


@pytest.mark.parametrize(
    ("metric", "recorded", "computed", "figure"),
    [
        ("rel_max", [1.0, -4.0], [1.5, -4.0], 0.125),
        ("rel_max", [0.0, 0.0], [0.0, 0.25], 0.25),
        ("abs", [1.0, -4.0], [1.5, -4.0], 0.5),
        ("rel", [2.0, -4.0], [2.5, -4.0], 0.25),
        ("rel", [1e-8, 1.0], [1.0, 1.0], 0.0),  # negligible beside the largest
        ("ids", [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 0.0, 4.0], 0.25),
        ("exact", [1.0, 2.0], [1.0, 2.0], 0.0),
    ],
)
def test_metrics(metric, recorded, computed, figure):
    values = torch.tensor(recorded), torch.tensor(computed)
    assert judge(rule(metric, figure), *values, None) == (pytest.approx(figure), True)
    if figure:
        assert judge(rule(metric, figure * 0.99), *values, None)[1] is False


def test_a_nonzero_scalar_instead_of_zero_is_infinitely_far():
    assert judge(rule("rel", 1.0), torch.tensor(0.0), torch.tensor(1e-9), None) == (float("inf"), False)
    assert judge(rule("rel", 1e-5), torch.tensor(0.0), torch.tensor(0.0), None) == (0.0, True)


def test_raster_looks_at_agreeing_pixels_of_any_stride_and_allows_few_outliers():
    same = torch.ones(224, 224, dtype=torch.bool)
    same[:, :112] = False
    picture = torch.ones(1, 3, 112, 112)
    wrong_face = picture.clone()
    wrong_face[..., :56] += 1.0  # only where the face differs anyway
    assert judge(rule("raster", 1e-4), picture, wrong_face, same) == (0.0, True)
    few, many = picture.clone(), picture.clone()
    few[0, 0, 0, 60:78] += 5e-4  # 18 of 18816 elements
    many[0, 0, 0, 60:80] += 5e-4
    assert judge(rule("raster", 1e-4), picture, few, same)[1]
    assert not judge(rule("raster", 1e-4), picture, many, same)[1]
    assert not judge(rule("raster", 1e-4), picture, picture + 2e-5, same)[1]  # a mean above a tenth of the bound
    assert judge(rule("raster", 1e-4), torch.ones(1, 112, 112, 2), torch.ones(1, 112, 112, 2), same)[1]
    assert judge(rule("raster", 1e-4), torch.ones(56, 56, 3), torch.ones(56, 56, 3), same)[1]
    assert judge(rule("raster", 1e-4), picture, picture, torch.zeros_like(same))[1] is False
    with pytest.raises(ConformError, match="face ids"):
        judge(rule("raster", 1e-4), picture, picture, None)
