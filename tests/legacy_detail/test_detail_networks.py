"""Keys, shapes and the recorded errors of the networks (detail spec 2)."""

import json
from pathlib import Path

import pytest
import torch

from parity.legacy_detail_build import NETWORKS, import_legacy_detail, network

KEYS = json.loads((Path(__file__).resolve().parents[2] / "fixtures/conformance/detail/keys.json").read_text())
PARAMETERS = {"E_flame": 25_848_108, "E_detail": 12_464_640, "D_detail": 3_831_786, "D": 2_124_138}


def entries(module):
    return {
        key: [list(value.shape), str(value.dtype).removeprefix("torch.")] for key, value in module.state_dict().items()
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_keys_shapes_and_order(trainer, name):
    found, expected = entries(network(trainer, name)), KEYS["state_dict_keys"][name]
    assert found == expected
    assert list(found) == list(expected)


@pytest.mark.parametrize(
    ("name", "file", "arguments"),
    [
        ("AUEncoder", "encoders_au", {}),
        ("AUEncoder_encoders_enc", "encoders_enc", {}),
        ("TDC", "encoders_enc", {"detail_dim": 2048, "au_dim": 512}),
    ],
)
def test_disabled_modules(name, file, arguments):
    if name == "TDC":
        arguments |= {"nfeat": 1, "nhid": 256, "noutput": 128, "dropout": 0.0, "alpha": 0.2, "nheads": 4}
        arguments |= {"batchsize": 1}
    class_name = name.removesuffix("_encoders_enc")
    module = getattr(import_legacy_detail(f"models.{file}"), class_name)(**arguments)
    assert entries(module) == KEYS["state_dict_keys"][name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts(trainer, name):
    assert sum(parameter.numel() for parameter in network(trainer, name).parameters()) == PARAMETERS[name]


def test_one_image_does_not_fit_the_discriminator(trainer):
    with pytest.raises(RuntimeError, match=r"shape '\[27, 3, 9, 512\]' is invalid for input of size 13824"):
        trainer.deca.D(torch.zeros(1, 3, 224, 224), torch.zeros(1, 27, 512))
    with torch.no_grad():
        assert trainer.deca.D(torch.zeros(1, 3, 224, 224), torch.zeros(1, 1, 27, 512)).shape == (1, 1, 28, 28)


def test_discriminator_wants_224_pixels(trainer):
    with pytest.raises(RuntimeError, match=r"Expected size 256 but got size 224"):
        trainer.deca.D(torch.zeros(2, 3, 256, 256), torch.zeros(2, 27, 512))


def test_flat_noise_does_not_fit_the_generator(trainer):
    with pytest.raises(RuntimeError, match="must have same number of dimensions: got 2 and 4"):
        trainer.deca.D_detail(torch.zeros(3, 181), torch.zeros(3, 27, 512))


def test_generator_ignores_its_scale():
    generator = import_legacy_detail("models.decoders_AU_dec_aucGAN").Generator3
    torch.manual_seed(1)
    plain = generator()
    torch.manual_seed(1)
    scaled = generator(latent_dim=7, out_channels=5, out_scale=1e-9, sample_mode="nearest")
    noise, cond = torch.rand(2, 181, 1, 1), torch.rand(2, 27, 512)
    with torch.no_grad():
        assert torch.equal(plain(noise, cond), scaled(noise, cond))
        assert plain(noise, cond).abs().max() > 0.01


def test_tdc_cannot_run():
    tdc = import_legacy_detail("models.encoders_enc").TDC(1, 256, 128, 0.0, 0.2, 4, 1)
    with pytest.raises(ValueError, match="too many values to unpack"):
        tdc(torch.zeros(2, 41, 41), torch.zeros(2, 1, 181))
    with pytest.raises(RuntimeError, match="must have same number of dimensions: got 3 and 2"):
        tdc(torch.zeros(2, 41), torch.zeros(2, 181))


def test_graph_changes_neither_tokens_nor_features(trainer, subject):
    image = torch.rand(1, 3, 224, 224)
    found = subject.replay("AUNet:eval", {"image": image})
    net = trainer.deca.AUNet
    with torch.no_grad():
        training = net.training
        net.eval()
        tokens, afn = net(image, use_gnn=False)
        net.train(training)
    assert torch.equal(found["tokens"], tokens)
    assert torch.equal(found["afn"], afn)
    assert found["cl"].shape == (1, 41)
    assert bool(((found["cl"] >= 0) & (found["cl"] <= 1.000001)).all())


def test_names_without_a_record_say_so():
    decoders = import_legacy_detail("models.decoders_AU_dec_aucGAN")
    for name in ("Generator2", "ConditionalGenerator", "GANDecoder", "Encoder"):
        with pytest.raises(NotImplementedError, match="on record"):
            getattr(decoders, name)()


def test_configuration_has_the_recorded_keys_and_values():
    config = import_legacy_detail("utils.config").get_cfg_defaults()

    def flat(node, prefix=""):
        for key, value in node.items():
            if isinstance(value, dict):
                yield from flat(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", value

    found = {key: Path(value).name if "/" in str(value) else value for key, value in flat(config)}
    assert found | {"deca_dir": "legacy"} == KEYS["config"]
