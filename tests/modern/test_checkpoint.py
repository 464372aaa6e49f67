import os

import pytest
import torch

from modern.action_units import ActionUnitClassifier, ActionUnitFeatures
from modern.checkpoint import (
    CheckpointError,
    legacy_state,
    load_legacy_state,
    load_model,
    load_model_tar,
    read_config,
    read_model_tar,
    save_model,
)
from modern.encoders import EmotionNet, FlameEncoder
from modern.losses.identity import IdentityNet
from modern.sequence import BiViT
from modern.weight_table import TABLES

NETWORKS = {
    "E_flame": FlameEncoder,
    "BiViT": BiViT,
    "AUNet": ActionUnitFeatures,
    "AU_net": ActionUnitClassifier,
    "expression_net": EmotionNet,
    "FRNet": IdentityNet,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_table_is_a_bijection_onto_the_parameters(name, legacy_keys):
    table, state = TABLES[name], NETWORKS[name]().state_dict()
    renamed = {key: table.modern(key) for key in legacy_keys[name]}
    kept = {key: here for key, here in renamed.items() if here is not None}
    assert sorted(kept.values()) == sorted(state)  # every legacy key consumed, every parameter filled
    assert {here: table.legacy(here) for here in state} == {here: key for key, here in kept.items()}
    assert {key: tuple(legacy_keys[name][key][0]) for key in kept} == {
        key: tuple(state[kept[key]].shape) for key in kept
    }
    dropped = [key for key, here in renamed.items() if here is None]
    assert all(any(key.startswith(prefix) for prefix in table.dropped) for key in dropped)


def test_order_of_the_trained_parameters_is_legacys(legacy_keys):
    names = [TABLES["BiViT"].legacy(name) for name, _ in BiViT().named_parameters()]
    assert names == legacy_keys["_trainable"]["BiViT"]


def test_legacy_round_trip(weights):
    network = BiViT()
    load_legacy_state(network, "BiViT", weights["BiViT"])
    again = legacy_state(network, "BiViT")
    assert again.keys() == weights["BiViT"].keys()
    assert all(torch.equal(again[key], value) for key, value in weights["BiViT"].items())


def test_missing_and_unknown_entries_are_named(weights):
    state = dict(weights["BiViT"])
    del state["vit.cls_token"]
    with pytest.raises(CheckpointError, match=r"lacks vit\.cls_token"):
        load_legacy_state(BiViT(), "BiViT", state, "file")
    with pytest.raises(CheckpointError, match=r"no entry .vit\.extra."):
        load_legacy_state(BiViT(), "BiViT", weights["BiViT"] | {"vit.extra": torch.zeros(1)}, "file")
    with pytest.raises(CheckpointError, match=r"other shapes at vit\.cls_token"):
        load_legacy_state(BiViT(), "BiViT", weights["BiViT"] | {"vit.cls_token": torch.zeros(1)}, "file")


def test_model_tar_is_read(tmp_path, weights, small_model):
    changed = {key: value + 1 for key, value in weights["BiViT"].items()}
    content = {"E_flame": weights["E_flame"], "BiViT": changed, "opt": {}, "global_step": 7, "batch_size": 1}
    torch.save(content, tmp_path / "model.tar")
    assert load_model_tar(small_model, tmp_path / "model.tar") == 7
    assert torch.equal(small_model.sequence.class_token, changed["vit.cls_token"])


class _Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_model_tar_that_would_run_code_is_refused(tmp_path):
    torch.save({"E_flame": {}, "opt": _Attack(tmp_path / "ran")}, tmp_path / "model.tar")
    with pytest.raises(CheckpointError, match=r"model\.tar: refused"):
        read_model_tar(tmp_path / "model.tar")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_damaged_or_absent_files_are_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "model.tar").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.tar"):
        read_model_tar(tmp_path / "model.tar")


def test_own_folder_round_trip(tmp_path, small_model, small_config):
    save_model(tmp_path / "saved", small_model, small_config)
    assert read_config(tmp_path / "saved") == small_config
    expected = small_model.sequence.class_token.detach().clone()
    with torch.no_grad():
        small_model.sequence.class_token.zero_()
    load_model(tmp_path / "saved", small_model)
    assert torch.equal(small_model.sequence.class_token, expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["saved"]


def test_damaged_own_folder_is_refused(tmp_path, small_model):
    (tmp_path / "model.safetensors").write_bytes(b"\x00")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_model(tmp_path, small_model)
    with pytest.raises(CheckpointError, match="no usable configuration"):
        read_config(tmp_path)
