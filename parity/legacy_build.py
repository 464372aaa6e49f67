"""Legacy built for an audit: its own constructors and files, with paths, device and downloads replaced from outside."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torchvision

from fixtures.legacy_files import write_legacy_data
from modern.assets import HeadAssets
from parity.checkout import COARSE
from parity.files import CACHE
from parity.legacy_tree import choose_tree, config_file, import_from, kept_switches, reconstruction, renderer_of
from parity.subject import Setup, StateDicts

TREE = reconstruction(COARSE)
YML = TREE / COARSE.yml
_IMAGENET = "resnet50-19c8e357.pth"


def import_legacy(module: str) -> Any:
    """Import `decalib.<module>` of the coarse fork; global switches it sets on import are put back."""
    return import_from(COARSE, module)


def legacy_renderer() -> Any:
    """The module of the coarse fork's renderer."""
    return renderer_of(COARSE)


def legacy_config(overrides: Mapping[str, Any], output_dir: str) -> Any:
    """The run's yacs configuration: defaults, the shipped yml, paths into `output_dir`/data, then dotted `overrides`.

    Raises:
        ValueError: an override that the configuration does not have.
    """
    config = import_legacy("utils.config").get_cfg_defaults()
    config.merge_from_file(str(config_file(COARSE)))
    redirect(config, Path(output_dir) / "data")
    apply_overrides(
        config, {"output_dir": output_dir, "train.write_summary": False, "train.resume": False, **overrides}
    )
    return config


def apply_overrides(config: Any, overrides: Mapping[str, Any]) -> None:
    """Set dotted keys of a yacs configuration.

    Raises:
        ValueError: a key that the configuration does not have.
    """
    for key, value in overrides.items():
        *parents, leaf = key.split(".")
        node = config
        for parent in parents:
            node = node.get(parent, {})
        if leaf not in node:
            raise ValueError(f"override {key!r}: legacy's configuration has no such key")
        node[leaf] = type(node[leaf])(value)


def build_trainer(setup: Setup) -> Any:
    """Legacy's Trainer around its DECA, with the setup's weights in every network and its dropout probability.

    The constructors run as they are in a folder that has their `./data`; what they load is then replaced by the exact
    weights of the setup, since the second-stage checkpoint fills both action-unit networks only in part.
    """
    choose_tree(COARSE, setup.legacy_root)
    deca, trainer_module = import_legacy(COARSE.deca), import_legacy(COARSE.trainer)
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="legacy-") as scratch, _prepared(Path(scratch), setup):
        config = legacy_config(setup.overrides, scratch)
        trainer = trainer_module.Trainer(deca.DECA(config, setup.device), config, setup.device)
    _load(trainer, setup)
    for module in trainer.mymodel.BiViT.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = setup.dropout
    return trainer


def redirect(config: Any, folder: Path) -> None:
    """Let every path of a configuration lead to the file of that name in `folder`, where there is one."""
    for key, value in config.items():
        if isinstance(value, dict):
            redirect(value, folder)
        elif isinstance(value, str) and value and (folder / Path(value).name).is_file():
            config[key] = str(folder / Path(value).name)


def _load(trainer: Any, setup: Setup) -> None:
    model = trainer.mymodel
    networks = {"E_flame": model.E_flame, "BiViT": model.BiViT, "AUNet": model.AUNet}
    networks |= {"AU_net": trainer.AU_net, "expression_net": trainer.expression_net}
    for name, network in networks.items():
        if name in setup.weights:  # the others stay as their constructors made them
            network.load_state_dict(dict(setup.weights[name]))


def write_files(head: HeadAssets, weights: StateDicts, folder: Path) -> None:
    """Write every file that legacy's constructors read below `./data`."""
    write_legacy_data(head, weights, folder)
    torch.save({}, folder / _IMAGENET)  # its values would be overwritten by the setup's


@contextlib.contextmanager
def _prepared(folder: Path, setup: Setup) -> Iterator[None]:
    """Working folder, files and process as legacy's constructors expect them; all put back afterwards."""
    if setup.files:
        (folder / "data").symlink_to(setup.files)
    else:
        write_files(setup.head, setup.weights, folder / "data")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(torch.cuda.device_count()))))
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(io.StringIO()),
        mock.patch.dict(os.environ, {"CUDA_VISIBLE_DEVICES": visible}),
        mock.patch("torchvision.models.resnet50", return_value=torchvision.models.resnet50(weights=None)),
        mock.patch("loguru.logger.add", return_value=0),
        mock.patch("loguru.logger.info"),
        kept_switches(),
    ):
        yield
