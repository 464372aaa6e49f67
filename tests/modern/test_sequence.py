import pytest
import torch

from fixtures import seeded
from modern.sequence import BiViT


@pytest.fixture(scope="module")
def inputs():
    return seeded.uniform("afn", (2, 3, 27, 512), 0, 0.1), seeded.uniform("feature", (2, 3, 2048))


def test_clips_do_not_see_each_other(inputs):
    network = BiViT().eval()
    together = network(*inputs)
    for clip in range(2):
        torch.testing.assert_close(network(inputs[0][clip], inputs[1][clip])[0], together[clip], atol=1e-5, rtol=1e-5)


def test_order_of_global_features_is_irrelevant_and_order_of_frames_is_not(inputs):
    network, (afn, feature) = BiViT().eval(), inputs
    out = network(afn, feature)
    torch.testing.assert_close(network(afn, feature.flip(1)), out, atol=1e-5, rtol=1e-5)
    assert (network(afn.flip(1), feature) - out).abs().max() > 1e-3


def test_single_key_attention_never_learns_its_queries_and_keys(inputs):
    network = BiViT(dropout=0.0)
    network(*inputs).square().sum().backward()
    for layer in network.layers:
        assert layer.cross_attention.q.weight.grad.abs().max() == 0
        key, value = layer.cross_attention.kv.weight.grad.chunk(2)
        assert key.abs().max() == 0
        assert value.abs().max() > 0


def test_dropout_acts_in_training_only_and_by_the_configured_probability(inputs):
    network = BiViT(dropout=0.5)
    assert not torch.equal(network(*inputs), network(*inputs))
    network.eval()
    assert torch.equal(network(*inputs), network(*inputs))
    still = BiViT(dropout=0.0)
    assert torch.equal(still(*inputs), still(*inputs))


def test_other_frame_counts_are_refused(inputs):
    with pytest.raises(ValueError, match="3 frames"):
        BiViT()(inputs[0][:, :2], inputs[1][:, :2])
