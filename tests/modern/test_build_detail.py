import numpy as np
import pytest
import torch
from torch import nn

from fixtures import seeded
from modern.asset_folder import _read_texture
from modern.build_detail import (
    ExpressionEncoder,
    _expression_encoder,
    build_detail_networks,
    fill_frozen,
    load_pretrained,
)
from modern.checkpoint import CheckpointError, legacy_state
from modern.checkpoint_transfer import import_detail
from modern.config_detail import DetailConfig, DetailLossConfig, DetailModelConfig
from tests.modern.detail_files import legacy_tar, small_networks


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr("modern.checkpoint_transfer.fresh_networks", lambda config: small_networks())


class _SmallVgg(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 1))


@pytest.mark.parametrize("prefix", ["", "deca.E_expression."])
def test_the_expression_encoder_is_found_among_emocas_networks(tmp_path, prefix):
    torch.manual_seed(0)
    encoder = ExpressionEncoder()
    state = {f"{prefix}{key}": value for key, value in legacy_state(encoder.encoder, "E_flame").items()}
    others = {"deca.E_flame.layers.0.bias": torch.zeros(3)} if prefix else {}
    torch.save({"state_dict": {**others, **state}}, tmp_path / "emoca.ckpt")
    loaded, image = _expression_encoder(tmp_path / "emoca.ckpt").eval(), seeded.uniform("image", (2, 3, 64, 64))
    assert torch.equal(loaded(image), encoder.eval()(image))
    assert loaded(image).shape == (2, 50)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_a_file_without_expression_encoder_is_refused(tmp_path):
    torch.save({"state_dict": {"deca.E_flame.layers.0.bias": torch.zeros(3)}}, tmp_path / "emoca.ckpt")
    with pytest.raises(CheckpointError, match=r"emoca\.ckpt: E_flame lacks"):
        _expression_encoder(tmp_path / "emoca.ckpt")


def test_the_mrf_network_is_loaded_only_if_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("modern.build_detail.build_classifier", lambda config: nn.Linear(1, 1))
    monkeypatch.setattr("modern.build_detail.Vgg19Features", _SmallVgg)
    files = DetailModelConfig(perceptual_weights=tmp_path / "vgg.pth")
    assert build_detail_networks(DetailConfig(model=files)).perceptual is None
    on = DetailConfig(model=files, loss=DetailLossConfig(mrf=0.05))
    with pytest.raises(CheckpointError, match=r"vgg\.pth: no such file"):
        build_detail_networks(on)
    torch.manual_seed(0)
    source = _SmallVgg()
    state = {f"features.{key}": value for key, value in source.layers.state_dict().items()}
    torch.save(
        {**state, "features.21.weight": torch.zeros(1), "classifier.0.bias": torch.zeros(1)}, tmp_path / "vgg.pth"
    )
    loaded = build_detail_networks(on).perceptual
    assert loaded is not None
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), loaded.parameters(), strict=True))


def test_frozen_networks_come_from_the_files_of_the_configuration(tmp_path):
    source, networks = small_networks(seed=3), small_networks()
    torch.save({"E_flame": legacy_state(source["E_flame"], "E_flame"), "D_detail": {}}, tmp_path / "deca.tar")
    units = legacy_state(source["AUNet"], "AUNet")
    torch.save({"state_dict": {f"module.{key}": value for key, value in units.items()}}, tmp_path / "au.pth")
    files = DetailModelConfig(encoder_weights=tmp_path / "deca.tar", au_weights=tmp_path / "au.pth")
    fill_frozen(networks, DetailConfig(model=files))
    for name in ("E_flame", "AUNet"):
        pairs = zip(source[name].state_dict().values(), networks[name].state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_a_run_is_told_what_it_starts_from(tmp_path, small):
    import_detail(legacy_tar(tmp_path), tmp_path / "out", DetailConfig(), fresh_discriminator=True)
    networks = small_networks()
    optimizers = {"optimizer_discriminator": torch.optim.Adam(networks["D"].parameters())}
    notes = load_pretrained(tmp_path / "out", networks, None, optimizers)
    assert notes[0] == f"starts from weights, optimizer_discriminator of {tmp_path / 'out'}"
    assert any("DISCRIMINATOR IS FRESHLY INITIALISED" in note for note in notes)
    (tmp_path / "out" / "import.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"import\.json: cannot be read"):
        load_pretrained(tmp_path / "out", networks)


def test_both_texture_spaces_are_read_in_the_same_units(tmp_path):
    random = np.random.RandomState(0)
    mean, directions = random.rand(512, 512, 3), random.rand(512, 512, 3, 60).astype(np.float32)
    np.savez(tmp_path / "FLAME_albedo_from_BFM.npz", MU=mean.reshape(-1), PC=directions.reshape(-1, 60))
    np.savez(tmp_path / "FLAME_texture.npz", mean=255 * mean, tex_dir=255 * directions)
    bfm, flame = _read_texture(tmp_path, "BFM"), _read_texture(tmp_path, "FLAME")
    assert bfm["tex_dir_bgr"].shape == flame["tex_dir_bgr"].shape == (512, 512, 3, 50)
    for name in ("tex_mean_bgr", "tex_dir_bgr"):
        np.testing.assert_array_equal(bfm[name], flame[name])
    np.savez(tmp_path / "FLAME_albedo_from_BFM.npz", MU=mean.reshape(-1), PC=directions.reshape(-1, 60)[:9])
    with pytest.raises(ValueError, match=r"BFM\.npz: MU has shape .*expected 786432 rows"):
        _read_texture(tmp_path, "BFM")
