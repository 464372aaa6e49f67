import pytest

from modern.config import (
    CoarseConfig,
    LossConfig,
    from_dict,
    from_legacy_dict,
    from_legacy_yml,
    to_dict,
    with_legacy_overrides,
)
from modern.fixes import fixes_of
from modern.legacy_keys import KEYS
from tests.modern.conftest import CONFORMANCE

SHIPPED = CONFORMANCE.parents[1] / "legacy/AU_sequence/configs/release_version/deca_pretrain_video_OnlyE2.yml"


def test_defaults_are_the_shipped_run():
    read = from_legacy_yml(SHIPPED)
    assert (read.model, read.train, read.loss) == (CoarseConfig().model, CoarseConfig().train, CoarseConfig().loss)
    assert read.ignored == ("dataset.K",)


def test_silence_means_the_legacy_default():
    read = from_legacy_dict({"loss": {"lmk": 2}})
    assert read.loss.landmark == 2.0
    assert read.loss.au_focal  # the legacy default, not the shipped run's
    assert read.train.max_epochs == 500


@pytest.mark.parametrize("key", sorted(KEYS))
def test_every_legacy_key_accepts_its_default(key):
    assert isinstance(with_legacy_overrides(CoarseConfig(), {key: KEYS[key].default}), CoarseConfig)


def test_unknown_key_names_key_file_and_neighbour(tmp_path):
    path = tmp_path / "run.yml"
    path.write_text("loss:\n  focalAu: True\n")
    with pytest.raises(ValueError, match=r"run\.yml: unknown key 'loss\.focalAu'.*'loss\.focalAU'"):
        from_legacy_yml(path)


def test_dump_of_the_legacy_object_is_refused_without_executing_it(tmp_path):
    path = tmp_path / "full_config.yaml"
    path.write_text("!!python/object/new:yacs.config.CfgNode\ndictitems: {}\n")
    with pytest.raises(ValueError, match="not plain YAML"):
        from_legacy_yml(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("model.tex_type", "BFM"), ("model.use_tex", False), ("train.train_detail", True), ("train.lr", "fast")],
)
def test_unsupported_values_are_refused(key, value):
    with pytest.raises(ValueError, match=key):
        with_legacy_overrides(CoarseConfig(), {key: value})


def test_plain_values_round_trip():
    config = CoarseConfig(loss=LossConfig(table="deca", identity=0.2), fixes=frozenset(fixes_of("coarse")))
    assert from_dict(to_dict(config)) == config


@pytest.mark.parametrize(
    "content", [{"loss": {"landmrak": 1.0}}, {"train": {"lr": "x"}}, {"model": {"jaw": "quaternion"}}]
)
def test_bad_own_settings_are_refused(content):
    with pytest.raises(ValueError, match="configuration"):
        from_dict(content)


def test_unknown_fix_is_refused():
    with pytest.raises(ValueError, match="unknown fix D99"):
        CoarseConfig(fixes=frozenset({"D99"}))
