"""What both stages share gives the same numbers whether or not gradients are asked for."""

import torch

from fixtures import seeded
from modern.action_units import ActionUnitClassifier
from modern.texture import FlameTexture
from tests.modern.detail.small import with_seeded_weights


def test_texture_without_gradient_is_the_texture_with(head):
    texture, codes = FlameTexture(head), seeded.uniform("tex", (2, 50), -1, 1)
    with_gradient = texture(codes.clone().requires_grad_())
    assert with_gradient.requires_grad
    assert torch.equal(texture(codes), with_gradient)


def test_classifier_without_gradient_is_the_classifier_with():
    network = with_seeded_weights(ActionUnitClassifier(), "ACG").eval().requires_grad_(False)
    picture = seeded.uniform("picture", (2, 3, 64, 64))
    tokens, probabilities, nodes = network(picture.clone().requires_grad_())
    assert probabilities.requires_grad
    for one, other in zip(network(picture), (tokens, probabilities, nodes), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_classifier_gives_the_picture_alone_a_gradient():
    network = with_seeded_weights(ActionUnitClassifier(), "ACG").eval().requires_grad_(False)
    picture = seeded.uniform("picture", (1, 3, 64, 64)).requires_grad_()
    network(picture)[1].sum().backward()
    assert picture.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in network.parameters())
