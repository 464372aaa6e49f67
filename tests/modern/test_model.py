"""Renderer, model and step on a small raster."""

import copy

import pytest
import torch

from modern.action_units import ActionUnitFeatures, imagenet_normalised
from modern.config import CoarseConfig, LossConfig, ModelConfig, deca_losses
from modern.encoders import EmotionNet
from modern.losses.identity import IdentityNet
from modern.renderer import directional_shading, sh_shading
from modern.train.step import CoarseStep, make_optimizer, update
from tests.modern.conftest import SMALL, small_clip, some_codes


def test_several_clips_equal_one_at_a_time(small_model):
    small_model.eval()
    clips = [small_clip("a"), small_clip("b")]
    with torch.no_grad():
        together = small_model.encode(torch.stack([clip.image_T3HW for clip in clips]))
        for index, clip in enumerate(clips):
            alone = small_model.encode(clip.image_T3HW)
            torch.testing.assert_close(alone.out_B127[0], together.out_B127[index], atol=1e-5, rtol=1e-4)
        assert torch.equal(together.image_B3HW[1], clips[1].image_T3HW[1])


def test_several_heads_are_rendered_as_one_at_a_time(small_model):
    codes = some_codes(2)
    with torch.no_grad():
        together = small_model.decode(codes).rendering
        for index in range(2):
            one = type(codes)(**{name: getattr(codes, name)[index : index + 1] for name in codes.__slots__})
            alone = small_model.decode(one).rendering
            agree = alone.surface.raster.face_ids_BHW[0] == together.surface.raster.face_ids_BHW[index]
            assert agree.float().mean() > 0.99
            difference = (alone.images_B3HW[0] - together.images_B3HW[index]).abs().amax(0)
            assert difference[agree].max() < 1e-3


def test_background_and_masks(small_model):
    with torch.no_grad():
        rendering = small_model.decode(some_codes()).rendering
    surface, background = rendering.surface, rendering.surface.raster.face_ids_BHW < 0
    assert 0.1 < background.float().mean() < 0.9
    assert (rendering.images_B3HW.permute(0, 2, 3, 1)[background] == 0).all()
    assert (surface.grid_BHW2[background] == 0).all()
    assert torch.equal(surface.alpha_images_B1HW[:, 0], (~background).float())
    assert 0 < surface.face_region_B1HW.sum() < surface.alpha_images_B1HW.sum()


def test_barycentric_coordinates_sum_to_one_on_the_head(small_model):
    with torch.no_grad():
        raster = small_model.decode(some_codes()).rendering.surface.raster
    sums = raster.barycentric_BHW3.sum(-1)[raster.face_ids_BHW >= 0]
    torch.testing.assert_close(sums, torch.ones_like(sums), atol=1e-3, rtol=0)


def test_inputs_are_left_alone(small_model):
    codes, clip = some_codes(), small_clip()
    kept, kept_clip = copy.deepcopy(codes), copy.deepcopy(clip)
    with torch.no_grad():
        decoding = small_model.decode(codes)
        projected = decoding.projected.vertices_BV3.clone()
        small_model.renderer(
            decoding.mesh.vertices_BV3, decoding.projected.vertices_BV3, decoding.albedo_B3SS, codes.light_B93
        )
        small_model.encode(clip.image_T3HW)
    assert torch.equal(projected, decoding.projected.vertices_BV3)
    assert all(torch.equal(getattr(codes, name), getattr(kept, name)) for name in codes.__slots__)
    assert torch.equal(clip.image_T3HW, kept_clip.image_T3HW)


@pytest.mark.parametrize("mode", [True, False])
def test_prediction_has_no_dropout_and_restores_the_mode(head, weights, mode, small_model):
    small_model.train(mode)
    before = [module.training for module in small_model.modules()]
    small_model.sequence.dropout.p = 0.5
    try:
        first, second = (small_model.predict(small_clip().image_T3HW) for _ in range(2))
    finally:
        small_model.sequence.dropout.p = 0.0
    assert torch.equal(first.encoding.out_B127, second.encoding.out_B127)
    assert not first.decoding.rendering.images_B3HW.requires_grad
    assert before == [module.training for module in small_model.modules()]


def test_frozen_networks_stay_in_evaluation_mode(small_model):
    small_model.train()
    assert small_model.sequence.training
    assert not any(module.training for module in small_model.encoder.modules())
    trained = {name.partition(".")[0] for name, parameter in small_model.named_parameters() if parameter.requires_grad}
    assert trained == {"sequence"}


def test_wrong_frames_are_refused(small_model):
    with pytest.raises(ValueError, match="crop and resize"):
        small_model.encode(torch.zeros(3, 3, SMALL, SMALL + 1))


def test_shading_of_light_coefficients():
    normal = torch.nn.functional.normalize(torch.randn(1, 3, 4, 4), dim=1)
    ambient = torch.zeros(1, 9, 3)
    ambient[:, 0] = torch.tensor([1.0, 2.0, 3.0])
    shading = sh_shading(normal, ambient)
    torch.testing.assert_close(shading[0, :, 0, 0] / shading[0, 0, 0, 0], torch.tensor([1.0, 2.0, 3.0]))
    assert directional_shading(torch.tensor([0.0, 0, -1]).view(1, 3, 1, 1)).item() == 0


def test_fix_d13_normalises_the_input_of_the_action_unit_network():
    torch.manual_seed(0)
    plain, fixed = ActionUnitFeatures().eval(), ActionUnitFeatures(imagenet=True).eval()
    fixed.load_state_dict(plain.state_dict())
    image = torch.rand(1, 3, SMALL, SMALL)
    with torch.no_grad():
        assert torch.equal(fixed(image)[1], plain(imagenet_normalised(image))[1])
        assert not torch.equal(fixed(image)[1], plain(image)[1])


@pytest.fixture(scope="module")
def expression():
    torch.manual_seed(0)
    return EmotionNet()


def test_step_trains_the_sequence_only_and_keeps_the_clip(small_model, small_config, expression):
    clip, step = small_clip(), CoarseStep(small_model, small_config, expression)
    kept, before = copy.deepcopy(clip), copy.deepcopy(small_model.state_dict())
    output = step.losses(clip)
    assert list(output.losses)[-1] == "all_loss"
    torch.testing.assert_close(sum(list(output.losses.values())[:-1]), output.losses["all_loss"])
    update(make_optimizer(small_model, small_config), output.losses["all_loss"])
    changed = {
        name.partition(".")[0]
        for name, value in small_model.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed == {"sequence"}
    assert all(parameter.grad is None for parameter in expression.parameters())
    for name in ("image_T3HW", "landmark_T683", "landmark_dense_T1053", "mask_T3HW"):
        assert torch.equal(getattr(clip, name), getattr(kept, name))


def test_first_adam_step_moves_by_the_learning_rate(small_model, small_config, expression):
    before = small_model.sequence.head.bias.detach().clone()
    update(
        make_optimizer(small_model, small_config),
        CoarseStep(small_model, small_config, expression).losses(small_clip()).losses["all_loss"],
    )
    moved = (small_model.sequence.head.bias - before).abs()
    torch.testing.assert_close(moved.median(), torch.tensor(small_config.train.lr), rtol=1e-2, atol=0)


def test_losses_of_two_equal_clips_are_those_of_one(small_model, small_config, expression):
    step, clip = CoarseStep(small_model, small_config, expression), small_clip()
    one, two = step.losses(clip).losses, step.losses([clip, clip]).losses
    for name in ("landmark", "photometric_texture", "expression", "AUFLoss", "light_reg"):
        torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(2 * one["tex_reg"], two["tex_reg"], rtol=1e-4, atol=0)


def test_missing_network_is_named(small_model, small_config):
    with pytest.raises(ValueError, match=r"loss\.emotion is on"):
        CoarseStep(small_model, small_config, None)


@pytest.mark.slow
def test_original_deca_losses_with_identity(head, weights):
    from modern.checkpoint import load_legacy_weights
    from modern.clip import Clip
    from modern.model import CoarseModel
    from parity.batch import seeded_batch

    config = CoarseConfig(model=ModelConfig(dropout=0.0), loss=deca_losses())
    model = CoarseModel(head, config)
    load_legacy_weights(model, weights, "seeded")
    torch.manual_seed(0)
    batch = seeded_batch()
    clip = Clip(
        image_T3HW=batch.image,
        landmark_T683=batch.landmark,
        landmark_dense_T1053=batch.landmark_dense,
        mask_T3HW=batch.mask,
    )
    output = CoarseStep(model, config, None, identity=IdentityNet()).losses(clip)
    names = ["landmark", "eye_distance", "lip_distance", "photometric_texture", "identity"]
    assert list(output.losses)[:5] == names
    assert all(torch.isfinite(value) for value in output.losses.values())
    (to_out,) = torch.autograd.grad(output.losses["identity"], output.encoding.out_B127)
    assert to_out[:, :50].abs().max() == 0  # texture
    assert to_out[:, 50:100].abs().max() > 0  # expression
    assert to_out[:, 100:].abs().max() == 0  # light


def test_losses_need_their_settings():
    assert LossConfig(au_focal=True).needs_au_classifier
    assert not LossConfig(table="deca", au_focal=True).needs_au_classifier
    assert deca_losses().needs_identity
