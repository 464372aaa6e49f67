"""One training step on small pictures: what it computes, what it leaves behind, what each fix changes."""

from dataclasses import replace

import pytest
import torch

from fixtures import seeded
from modern.config_detail import DetailConfig, DetailLossConfig
from modern.detail.batch import DetailBatch
from modern.detail.expression import FixedExpression
from modern.detail.step import DetailStep, make_optimizers
from modern.losses.detail import DETAIL_TERMS, DetailLossInputs, asymmetry, au_features, detail_losses
from tests.modern.detail.small import DrawnGeometry, small_batch, small_step

NAMES = ["photo_detail", "z_reg", "z_diff", "z_sym", "au_feature_loss", "all_loss"]


@pytest.fixture(scope="module")
def trained():
    """A step that has been taken once, its report, and the weights before."""
    step, batch = small_step(), small_batch()
    before = {name: value.clone() for name, value in step.model.state_dict().items()}
    copies = (batch.image_B3HW.clone(), batch.mask_BHW.clone())
    report = step.train_step(batch, make_optimizers(step.model, step.config))
    unchanged = torch.equal(copies[0], batch.image_B3HW) and torch.equal(copies[1], batch.mask_BHW)
    return step, report, before, unchanged


@pytest.fixture(scope="module")
def forward():
    step = small_step()
    return step, step.losses(small_batch())


def test_losses_by_name(trained):
    _, report, _, unchanged = trained
    assert list(report.losses) == [*NAMES, "real", "fake", "D_loss", "adv_G", "content", "G_loss"]
    assert all(torch.isfinite(value) and not value.requires_grad for value in report.losses.values())
    losses = report.losses
    assert losses["D_loss"] == losses["real"] + losses["fake"]
    assert losses["G_loss"] == losses["adv_G"] + losses["content"]
    assert losses["content"] == losses["all_loss"]
    assert unchanged


def test_only_the_three_trained_networks_change(trained):
    step, _, before, _ = trained
    changed = {
        name.split(".")[0] for name, value in step.model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {"detail_encoder", "generator", "discriminator", "action_units"}  # the last: batch statistics
    parameters = dict(step.model.action_units.named_parameters())
    assert all(torch.equal(value, before[f"action_units.{name}"]) for name, value in parameters.items())


def test_frozen_networks_hold_no_gradient_and_the_discriminator_none_of_the_generators(trained):
    step, *_ = trained
    for network in (step.model.encoder, step.model.action_units, step.au_classifier, step.model.discriminator):
        assert all(parameter.grad is None for parameter in network.parameters())
    painters = (*step.model.detail_encoder.parameters(), *step.model.generator.parameters())
    assert all(parameter.grad is not None for parameter in painters)


def test_batch_statistics_move_once_in_one_and_twice_in_the_other(trained):
    step, *_ = trained
    assert step.model.action_units.trunk.bn1.num_batches_tracked == 1
    assert step.au_classifier.trunk.bn1.num_batches_tracked == 2
    assert step.au_classifier.token.norm.num_batches_tracked == 0


def test_the_discriminators_update_reaches_no_other_network(forward):
    step, output = forward
    step.update_discriminator(output, make_optimizers(step.model, step.config))
    assert all(parameter.grad is not None for parameter in step.model.discriminator.parameters())
    for network in (step.model.detail_encoder, step.model.generator, step.model.action_units):
        assert all(parameter.grad is None for parameter in network.parameters())


def test_gradients_are_those_of_one_graph():
    """Splitting the backward pass at the final image changes nothing."""
    step, batch = small_step(), small_batch()
    step.update_generator(step.losses(batch), make_optimizers(step.model, step.config))
    found = [parameter.grad.clone() for parameter in step.model.generator.parameters()]

    step = small_step()
    encoding = step.model.encode(batch.image_B3HW)
    whole = step.terms(encoding, step.model.decode(encoding.codes), batch, *_observed(step, batch, encoding))
    judged = step.model.discriminator(whole.final_image_B3HW, step.condition(whole))
    target = step.au_classifier(whole.final_image_B3HW)[1]
    inputs = replace(whole.inputs, au_painted_B41=target)
    total = sum(detail_losses(inputs, step.config).weighted.values()) + step.adversarial_loss(judged)
    expected = torch.autograd.grad(total, list(step.model.generator.parameters()))
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() <= 2e-3 * other.norm() + 1e-3


def _observed(step, batch, encoding):
    output = step.losses(batch)
    return output.observation, output.inputs.au_photograph_B41


def test_validation_needs_no_graph(forward):
    step, output = forward
    step.model.eval()
    with torch.no_grad():
        found = step.losses(small_batch())
    step.model.train()
    assert not any(value.requires_grad for value in found.losses.values())
    assert list(found.losses) == list(output.losses)


def test_prediction_leaves_mode_and_statistics_alone(forward):
    step, _ = forward
    before = step.model.action_units.trunk.bn1.running_mean.clone()
    prediction = step.model.predict(small_batch().image_B3HW)
    assert prediction.decoding.picture_B3HW.shape == (2, 3, 64, 64)
    assert not prediction.decoding.uv_z_B1SS.requires_grad
    assert step.model.action_units.training
    assert not step.model.encoder.training
    assert torch.equal(before, step.model.action_units.trunk.bn1.running_mean)


def test_optimizers_restore_what_they_saved(trained):
    step, *_ = trained
    one, other = make_optimizers(step.model, step.config), make_optimizers(step.model, step.config)
    for parameter in (*step.model.generator.parameters(), *step.model.discriminator.parameters()):
        parameter.grad = torch.ones_like(parameter)
    one.discriminator.step()
    other.load_state_dict(one.state_dict())
    assert len(other.generator.param_groups[0]["params"]) == 36
    assert len(other.discriminator.state) == 10
    step.model.zero_grad()


def inputs(**changed):
    maps = dict.fromkeys(
        ("texture_patch_B3SS", "texture_gt_patch_B3SS", "uv_shading_B3SS"), seeded.uniform("m", (2, 3, 8, 8))
    )
    ones = dict.fromkeys(("visible_patch_B1SS", "unseen_B1SS"), torch.ones(2, 1, 8, 8))
    units = dict.fromkeys(("au_photograph_B41", "au_painted_B41"), seeded.uniform("u", (2, 41), 0.1, 0.9))
    given = {**maps, **ones, **units, "uv_z_B1SS": seeded.uniform("z", (2, 1, 8, 8), -1, 1)}
    return DetailLossInputs(**{**given, **changed})


def test_asymmetry_is_nought_for_a_symmetric_map_and_the_same_for_its_mirror_image():
    z = seeded.uniform("z", (2, 1, 8, 8), -1, 1)
    assert asymmetry(inputs(uv_z_B1SS=z + z.flip(-1))) == 0
    assert torch.allclose(asymmetry(inputs(uv_z_B1SS=z)), asymmetry(inputs(uv_z_B1SS=z.flip(-1))))


def test_asymmetry_pulls_the_unseen_side_only():
    z = seeded.uniform("z", (1, 1, 8, 8), -1, 1).requires_grad_()
    unseen = torch.zeros(1, 1, 8, 8)
    unseen[..., 4:] = 1
    asymmetry(inputs(uv_z_B1SS=z, unseen_B1SS=unseen)).backward()
    assert not z.grad[..., :4].any()
    assert z.grad[..., 4:].all()


def test_action_unit_term_pulls_up_even_where_nothing_differs():
    """Defect D37, and its fix."""
    painted = seeded.uniform("u", (2, 41), 0.1, 0.9).requires_grad_()
    given = inputs(au_painted_B41=painted, au_photograph_B41=painted.detach())
    (gradient,) = torch.autograd.grad(au_features(given), painted)
    assert torch.allclose(gradient, -painted.detach() / painted.numel())
    (fixed,) = torch.autograd.grad(au_features(replace(given, fixes=frozenset({"D37"}))), painted)
    assert torch.allclose(fixed, torch.zeros_like(fixed), atol=1e-6)


def test_a_term_of_weight_nought_is_left_out():
    config = DetailConfig(loss=DetailLossConfig(symmetry=0.0))
    assert list(detail_losses(inputs(), config).weighted) == [
        name for name in NAMES if name not in ("z_sym", "all_loss")
    ]
    assert [term.name for term in DETAIL_TERMS][1] == "photo_detail_mrf"


def test_the_mrf_term_asks_for_its_network(forward):
    step, _ = forward
    with pytest.raises(ValueError, match=r"loss\.mrf"):
        DetailStep(step.model, DetailConfig(loss=DetailLossConfig(mrf=0.05)), step.au_classifier)


def test_fix_d43_takes_the_mean():
    assert torch.allclose(asymmetry(inputs(fixes=frozenset({"D43"}))) * 128, asymmetry(inputs()))


@torch.no_grad()
def test_fix_d25_scales_the_displacement(forward):
    step, output = forward
    fixed = small_step(DetailConfig(fixes=frozenset({"D25"})))
    uv_z = fixed.model.decode(output.encoding.codes).uv_z_B1SS
    assert torch.allclose(uv_z, step.model.decode(output.encoding.codes).uv_z_B1SS * 0.01)


def test_fix_d32_expects_nothing_of_painted_pictures(forward):
    step, _ = forward
    judged = torch.full((1, 1, 2, 2), 0.5)
    fixed = DetailStep(step.model, DetailConfig(fixes=frozenset({"D32"})), step.au_classifier)
    assert fixed.discriminator_losses(judged, judged)["fake"] == -torch.tensor(0.5).log()
    assert step.discriminator_losses(judged, judged * 0.2)["fake"] < step.discriminator_losses(judged, judged)["fake"]


def test_fix_d39_keeps_the_statistics():
    step = small_step(DetailConfig(fixes=frozenset({"D39"})))
    with torch.no_grad():
        pair = step.losses(small_batch())
    assert not step.model.action_units.trunk.bn1.num_batches_tracked
    assert not step.au_classifier.trunk.bn1.num_batches_tracked
    alone = step.model.encode(small_batch().image_B3HW[:1].expand(2, -1, -1, -1)).codes.afn_BUC[0]
    assert torch.allclose(alone, pair.encoding.codes.afn_BUC[0], atol=1e-5)


@torch.no_grad()
def test_fix_g31_keeps_the_photograph_off_the_head(forward):
    step, output = forward
    batch, fixed = small_batch(), DetailStep(step.model, DetailConfig(fixes=frozenset({"G31"})), step.au_classifier)
    off = (output.decoding.surface.alpha_images_B1HW == 0).expand(-1, 3, -1, -1)
    assert torch.equal(fixed.final_image(output.decoding, batch)[off], batch.image_B3HW[off])
    assert not torch.equal(step.final_image(output.decoding, batch)[off], batch.image_B3HW[off])


def test_batches_and_expressions_of_another_size_are_refused():
    image = torch.zeros(2, 3, 8, 8)
    with pytest.raises(ValueError, match="masks have shape"):
        DetailBatch(image_B3HW=image, mask_BHW=torch.zeros(2, 8, 7))
    with pytest.raises(ValueError, match="images have shape"):
        DetailBatch(image_B3HW=image[0], mask_BHW=torch.zeros(2, 8, 8))
    with pytest.raises(ValueError, match="2 images, but 3"):
        FixedExpression(torch.zeros(3, 50))(image)
    with pytest.raises(ValueError, match="images have shape"):
        small_step(geometry=DrawnGeometry()).model.encode(image[0])
