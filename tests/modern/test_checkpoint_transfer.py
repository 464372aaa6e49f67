"""The coarse fork's `model.tar` in and out, with stand-in networks that have the names of the real ones."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from modern.checkpoint import CheckpointError, load_model
from modern.checkpoint_transfer import export_coarse, import_coarse
from modern.config import CoarseConfig
from modern.weight_table import TABLES
from tests.modern.detail_files import adam_state, legacy_tar
from tests.modern.test_checkpoint import _Attack


class SmallModel(nn.Module):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.encoder = nn.ModuleDict({"trunk": nn.BatchNorm1d(2), "regressor": nn.Sequential(nn.Linear(2, 3))})
        self.sequence = nn.ModuleDict({"norm": nn.LayerNorm(2), "head": nn.Linear(2, 3)})
        self.action_units = nn.ModuleDict({"trunk": nn.Linear(2, 2)})


def legacy(module, network):
    return {TABLES[network].legacy(key): value.clone() for key, value in module.state_dict().items()}


def coarse_tar(folder, **changes):
    model = SmallModel(seed=7)
    content = {
        "E_flame": legacy(model.encoder, "E_flame"),
        "BiViT": legacy(model.sequence, "BiViT"),
        "opt": adam_state(list(model.sequence.parameters()), 1e-4),
        "global_step": 500,
        "batch_size": 1,
    } | changes
    torch.save({key: value for key, value in content.items() if value is not None}, folder / "model.tar")
    return folder / "model.tar"


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    def opened(folder, change):
        model = SmallModel()
        load_model(folder, model)
        return model

    monkeypatch.setattr("modern.checkpoint_transfer.build_model", lambda config: SmallModel())
    monkeypatch.setattr("modern.checkpoint_transfer.open_model", opened)


def test_there_and_back_gives_the_file_again(tmp_path):
    tar = coarse_tar(tmp_path)
    notes = import_coarse(tar, tmp_path / "out", CoarseConfig())
    assert notes[1].startswith("opt: optimizer state of 4 parameters")
    assert any(note.startswith("AUNet: never in the file") for note in notes)
    notes = export_coarse(tmp_path / "out", tmp_path / "back.tar")
    assert any("legacy fails to restore it when it resumes" in note for note in notes)
    first, again = (torch.load(path, weights_only=True) for path in (tar, tmp_path / "back.tar"))
    assert list(first) == list(again)
    assert (again["global_step"], again["batch_size"]) == (500, 1)
    for name in ("E_flame", "BiViT"):
        assert first[name].keys() == again[name].keys()
        assert all(torch.equal(first[name][key], again[name][key]) for key in first[name])
    assert first["opt"]["state"].keys() == again["opt"]["state"].keys()
    for index, entries in first["opt"]["state"].items():
        assert all(torch.equal(value, again["opt"]["state"][index][name]) for name, value in entries.items())
    assert again["opt"]["param_groups"][0]["lr"] == 1e-4


def test_what_a_file_lacks_or_has_too_much_is_said(tmp_path):
    tar = coarse_tar(tmp_path, BiViT=None, opt={}, other=3)
    notes = import_coarse(tar, tmp_path / "out", CoarseConfig())
    assert "opt: no state; Adam begins anew" in notes
    assert "other: dropped, this package knows no such network" in notes
    assert "BiViT: NOT IN THE FILE, freshly initialised" in notes
    assert json.loads((tmp_path / "out" / "import.json").read_text())["notes"] == notes[1:]
    assert not (tmp_path / "out" / "optimizer.safetensors").exists()
    assert load_file(tmp_path / "out" / "model.safetensors")


def test_files_of_the_other_fork_and_other_optimizers_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"file of the detail fork, choose --pipeline detail"):
        import_coarse(legacy_tar(tmp_path), tmp_path / "out", CoarseConfig())
    tar = coarse_tar(tmp_path, opt=adam_state([torch.zeros(9)], 1e-4))
    with pytest.raises(CheckpointError, match="state of parameter 0 does not fit BiViT"):
        import_coarse(tar, tmp_path / "out", CoarseConfig())
    with pytest.raises(CheckpointError, match="refused"):
        import_coarse(coarse_tar(tmp_path, opt=_Attack(tmp_path / "ran")), tmp_path / "out", CoarseConfig())
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "ran").exists()
