"""Shapes, sizes and known properties of the three trained networks and the MRF term."""

import pytest
import torch

from fixtures import seeded
from modern.checkpoint import CheckpointError, legacy_state, load_legacy_state
from modern.detail.networks import DetailEncoder, DisplacementGenerator, PatchDiscriminator, condition_map
from modern.detail.perceptual import Vgg19Features, mrf, patch_distance
from modern.weight_table import TABLES
from tests.modern.detail.small import with_seeded_weights


@pytest.fixture(scope="module")
def afn():
    return seeded.uniform("afn", (2, 27, 512), 0, 0.0764)


@pytest.mark.parametrize(
    ("network", "name", "count"),
    [(DetailEncoder, "E_detail", 12_464_640), (DisplacementGenerator, "D_detail", 3_831_786)],
)
def test_parameter_counts_and_keys(network, name, count):
    network = network()
    assert sum(parameter.numel() for parameter in network.parameters()) == count
    state = legacy_state(network, name)
    assert {key.rsplit(".", 1)[-1] for key in state} == {"weight", "bias"}
    load_legacy_state(network, name, state)


def test_the_discriminators_dead_layer_is_dropped():
    network = PatchDiscriminator()
    assert sum(parameter.numel() for parameter in network.parameters()) == 2_124_138 - 566_825
    state = legacy_state(network, "D")
    load_legacy_state(network, "D", {**state, "l1.weight": torch.zeros(41, 13824, 1, 1)})
    with pytest.raises(CheckpointError, match="l2"):
        load_legacy_state(network, "D", {**state, "l2.weight": torch.zeros(1)})


def test_vgg_keys_are_torchvisions():
    state = legacy_state(Vgg19Features(), "VGG19")
    assert list(state)[-2:] == ["19.weight", "19.bias"]
    assert TABLES["VGG19"].modern("21.weight") is None


@torch.no_grad()
@pytest.mark.parametrize("size", [64, 224, 256])
def test_encoder_takes_any_size(size):
    network = with_seeded_weights(DetailEncoder(), "E_detail")
    assert network(seeded.uniform("picture", (1, 3, size, size))).shape == (1, 128, 1, 1)


@torch.no_grad()
def test_generator_paints_within_one_and_reads_its_condition(afn):
    network = with_seeded_weights(DisplacementGenerator(), "D_detail")
    latent = seeded.uniform("latent", (2, 181, 1, 1), -1, 1)
    painted = network(latent, afn)
    assert painted.shape == (2, 1, 256, 256)
    assert painted.abs().max() < 1
    assert not torch.equal(painted, network(latent, afn.flip(0)))


@torch.no_grad()
def test_generator_is_almost_blind_to_the_scale_of_its_input(afn):
    """Defect D41: instance normalisation right after the latent."""
    network = with_seeded_weights(DisplacementGenerator(), "D_detail")
    latent = seeded.uniform("latent", (2, 181, 1, 1), -1, 1)
    painted = network(latent, afn)
    changed = (painted - network(latent * 10, afn * 10)).abs().mean()
    assert changed < 0.1 * (painted[0] - painted[1]).abs().mean()


def test_64_of_512_features_have_no_influence_on_the_condition():
    """Defect D26."""
    afn = torch.ones(1, 27, 512, requires_grad=True)
    condition_map(afn, 224).square().sum().backward()
    assert (afn.grad.abs().sum(dim=(0, 1)) == 0).sum() == 64


@torch.no_grad()
@pytest.mark.parametrize("images", [1, 2])
def test_discriminator_judges_patches_of_any_batch(afn, images):
    network = with_seeded_weights(PatchDiscriminator(), "D")
    picture = seeded.uniform("picture", (2, 3, 64, 64))
    judged = network(picture[:images], condition_map(afn[:images], 64))
    assert judged.shape == (images, 1, 8, 8)
    assert torch.allclose(judged, network(picture, condition_map(afn, 64))[:images], atol=1e-6)


@torch.no_grad()
def test_patch_distance_does_not_ask_where_a_patch_is():
    target = seeded.uniform("target", (1, 8, 6, 6), -1, 1)
    moved = target.flatten(2)[..., torch.randperm(36, generator=torch.Generator().manual_seed(0))].view_as(target)
    other = patch_distance(seeded.uniform("other", (1, 8, 6, 6), -1, 1), target)
    assert patch_distance(target, target) < 0.01 * other
    assert patch_distance(moved, target) < 0.3 * other  # distances of 0 are compared with 1e-5, so rounding shows


def test_mrf_gives_the_target_no_gradient():
    network = Vgg19Features()
    picture = seeded.uniform("picture", (1, 3, 32, 32)).requires_grad_()
    target = seeded.uniform("target", (1, 3, 32, 32)).requires_grad_()
    mrf(network, picture, target).backward()
    assert picture.grad.abs().sum() > 0
    assert target.grad is None
    assert all(parameter.grad is None for parameter in network.parameters())
