import json

import pytest

from modern.config import CoarseConfig, to_dict, with_legacy_overrides
from modern.config_common import read_dict, read_legacy_dict, read_legacy_yml
from modern.config_detail import DetailConfig, DetailLossConfig
from modern.fixes import fixes_of
from modern.legacy_keys_detail import DETAIL_KEYS
from tests.modern.conftest import CONFORMANCE

RECORDED = json.loads((CONFORMANCE / "detail" / "keys.json").read_text())["config"]
MAPPED = {
    "pretrained_modelpath": ("model", "encoder_weights"),
    "output_dir": ("train", "output_dir"),
    "model.flame_model_path": ("model", "head"),
    "model.tex_type": ("model", "texture"),
    "model.max_z": ("model", "max_displacement"),
    "dataset.batch_size": ("data", "batch_size"),
    "dataset.K": ("data", "images"),
    "dataset.num_workers": ("data", "workers"),
    "train.max_epochs": ("train", "max_epochs"),
    "train.max_steps": ("train", "max_steps"),
    "train.log_steps": ("train", "log_steps"),
    "train.vis_steps": ("train", "vis_steps"),
    "train.write_summary": ("train", "write_summary"),
    "train.checkpoint_steps": ("train", "checkpoint_steps"),
    "train.resume": ("train", "resume"),
    "loss.photo_D": ("loss", "photometric"),
    "loss.reg_sym": ("loss", "symmetry"),
    "loss.reg_z": ("loss", "displacement"),
    "loss.reg_diff": ("loss", "smoothness"),
}


def test_the_table_has_exactly_the_recorded_keys_and_defaults():
    assert len(RECORDED) == 77
    assert {name: key.default for name, key in DETAIL_KEYS.items()} == RECORDED


def test_every_key_is_mapped_or_fixed_or_said_to_be_ignored():
    nested: dict = {}
    for name, value in RECORDED.items():
        section, _, key = name.rpartition(".")
        (nested.setdefault(section, {}) if section else nested)[key] = value
    config = read_legacy_dict(DetailConfig, nested, "recorded")
    fixed = {name for name, key in DETAIL_KEYS.items() if key.fixed}
    assert {name: key.target for name, key in DETAIL_KEYS.items() if key.target} == {
        name: ".".join(target) for name, target in MAPPED.items()
    }
    assert set(config.ignored) | set(MAPPED) | fixed == set(RECORDED)
    assert not set(config.ignored) & (set(MAPPED) | fixed)
    assert {"loss.AU_feature", "loss.mrf", "train.lr", "dataset.training_data"} <= set(config.ignored)


@pytest.mark.parametrize("name", MAPPED)
def test_mapped_keys_arrive(name):
    section, key = MAPPED[name]
    value = {str: "FLAME", bool: False, int: 3, float: 0.125}[type(RECORDED[name])]
    value = "folder/generic_model.pkl" if "path" in name else value
    before, after = DetailConfig(), with_legacy_overrides(DetailConfig(), {name: value})
    assert getattr(getattr(after, section), key) != getattr(getattr(before, section), key)


def test_defaults_are_legacys_losses_and_adam():
    config = read_legacy_dict(DetailConfig, {}, "silent")
    assert config.loss == DetailLossConfig() == DetailConfig().loss
    train = config.train
    assert (train.lr_generator, train.lr_discriminator, train.beta1, train.beta2) == (5e-6, 1e-4, 0.5, 0.999)
    assert (config.data.batch_size, config.data.images) == (16, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loss:\n  photo_d: 1\n", r"run\.yml: unknown key 'loss\.photo_d'.*'loss\.photo_D'"),
        ("train:\n  train_detail: False\n", r"run\.yml: train\.train_detail is False; only True is supported"),
        ("dataset:\n  image_size: 256\n", r"run\.yml: dataset\.image_size is 256; only 224"),
        ("model:\n  n_detail: 64\n", r"run\.yml: model\.n_detail is 64"),
        ("model:\n  tex_type: other\n", r"model\.texture: 'other' is not one of 'BFM', 'FLAME'"),
        ("loss:\n  reg_z: much\n", r"loss\.displacement: 'much' is not a number"),
        ("dataset:\n  K: 0\n", r"data\.images is 0, expected at least 1"),
        ("loss: [1]\n", r"unknown key 'loss'"),
        ("- 1\n", r"run\.yml holds list, expected sections"),
        ("!!python/object/new:yacs.config.CfgNode\ndictitems: {}\n", r"run\.yml is not plain YAML"),
    ],
)
def test_unusable_ymls_are_refused(tmp_path, text, message):
    (tmp_path / "run.yml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_legacy_yml(DetailConfig, tmp_path / "run.yml")


def test_plain_values_round_trip():
    config = with_legacy_overrides(
        DetailConfig(fixes=frozenset(fixes_of("detail"))), {"loss.reg_sym": 5e-6, "loss.mrf": 1}
    )
    assert read_dict(DetailConfig, to_dict(config), "x") == config
    assert to_dict(config)["pipeline"] == "detail"
    assert config.ignored == ("loss.mrf",)


def test_a_fix_of_the_other_stage_is_refused():
    with pytest.raises(ValueError, match=r"unknown fix D12; registered: D13"):
        DetailConfig(fixes=frozenset({"D12"}))
    assert CoarseConfig(fixes=frozenset({"D12"})).fixes
