"""Legacy `model.tar` in and out, for both pipelines: what `python -m modern import` and `export` do.

Every function returns sentences that say what was lost, dropped, kept or begins anew; nothing is left out silently.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from modern.build import build_model, open_model
from modern.build_detail import build_classifier, fill_from_run, fill_frozen, fresh_networks, load_pretrained
from modern.checkpoint import (
    CheckpointError,
    legacy_state,
    load_legacy_weights,
    read_config,
    read_model_tar,
    save_model,
)
from modern.checkpoint_adam import settings_differing
from modern.checkpoint_detail import (
    CLASSIFIER,
    PARTS,
    DetailContent,
    read_detail_tar,
    write_detail_tar,
)
from modern.checkpoint_folder import OPTIMIZERS, REPORT, read_detail_config, read_report, read_tensors, save_detail
from modern.config import CoarseConfig, from_dict, to_dict
from modern.config_common import read_dict
from modern.config_detail import DetailConfig
from modern.train.files import write_file
from modern.train.optimizer_state import ParameterStates, read_optimizer, write_states
from modern.train.run_folder import RunFolder
from modern.train.state import latest_checkpoint

_COARSE = ("E_flame", "BiViT", "opt", "global_step", "batch_size")
Change = Callable[[Any], Any]


def import_coarse(tar: Path, out: Path, config: CoarseConfig) -> list[str]:
    """Turn a coarse `model.tar` into a folder of safetensors and configuration.

    Args:
        tar: nothing in it is executed.
        out: must not exist.
        config: of the run that wrote it.

    Raises:
        ValueError: if a file cannot be used (`CheckpointError` for weights).
    """
    config = replace(config, model=replace(config.model, pretrained=None))
    content = read_model_tar(tar)
    if "D_detail" in content:
        raise CheckpointError(f"{tar}: this is a file of the detail fork, choose --pipeline detail")
    model = build_model(config)
    load_legacy_weights(model, {name: content[name] for name in ("E_flame", "BiViT") if name in content}, str(tar))
    updates, states = int(content.get("global_step", 0)), _coarse_states(tar, content, model.sequence)
    notes = [
        f"opt: optimizer state of {len(states)} parameters" if states else "opt: no state; Adam begins anew",
        *(f"{name}: dropped, this package knows no such network" for name in content if name not in _COARSE),
        *([] if "BiViT" in content else ["BiViT: NOT IN THE FILE, freshly initialised"]),
        f"AUNet: never in the file; from {config.model.au_weights}",
    ]

    def write(part: Path) -> None:
        if states:
            write_states(part / "optimizer.safetensors", states)
        (part / REPORT).write_text(json.dumps({"updates": updates, "notes": notes}, indent=1), encoding="utf-8")

    save_model(out, model, config, write)
    return [f"{tar} after {updates} steps -> {out}", *notes]


def import_detail(tar: Path, out: Path, config: DetailConfig, *, fresh_discriminator: bool = False) -> list[str]:
    """Turn a detail `model.tar` into a folder of safetensors and configuration; other files are not needed.

    Args:
        tar: nothing in it is executed.
        out: must not exist.
        config: of the run that wrote it.
        fresh_discriminator: accept that the file holds no discriminator weights.

    Raises:
        CheckpointError: if the file cannot be used.
    """
    config = replace(config, model=replace(config.model, pretrained=None))
    torch.manual_seed(config.train.seed)  # of a discriminator that begins anew
    networks = fresh_networks(config)
    content = read_detail_tar(tar, networks, fresh_discriminator=fresh_discriminator)
    content.notes += settings_differing(content.settings, _adam(config))
    save_detail(out, networks, config, content)
    return [f"{tar} after {content.updates} steps -> {out}", *content.notes]


def export_coarse(source: Path, tar: Path, change: Change = lambda config: config) -> list[str]:
    """Write a coarse `model.tar` of a run (its newest checkpoint) or of an imported folder.

    Args:
        source: either.
        tar: file to write.
        change: applied to the recorded configuration, e.g. to correct paths.

    Raises:
        ValueError: if the folder is neither, or one of its files cannot be used.
    """
    model, run = open_model(source, change), RunFolder(source)
    if run.config.exists():
        config = from_dict(yaml.safe_load(run.config.read_text(encoding="utf-8")), str(run.config))
        checkpoint = _latest(run)
        described = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
        states, updates, groups = _states(checkpoint, "optimizer"), described["step"], described["param_groups"]
    else:
        config, states = read_config(source), _states(source, "optimizer")
        updates, groups = read_report(source).get("updates", 0), []
    optimizer = torch.optim.Adam(model.sequence.parameters(), lr=config.train.lr)
    opt = {"state": states, "param_groups": groups or optimizer.state_dict()["param_groups"]}
    weights = {name: legacy_state(part, name) for name, part in (("E_flame", model.encoder), ("BiViT", model.sequence))}
    content = {**weights, "opt": opt, "global_step": updates, "batch_size": config.data.batch_size}
    write_file(tar, lambda part: torch.save(content, part))
    return [
        f"{source} after {updates} steps -> {tar}",
        "opt: the optimizer state is in the file, but legacy fails to restore it when it resumes",
        "AUNet: not part of the format; legacy reads it from its own file",
    ]


def export_detail(source: Path, tar: Path, change: Change = lambda config: config) -> list[str]:
    """Write a detail `model.tar`, and beside it what it cannot hold.

    Args:
        source: a run (its newest checkpoint is used) or an imported folder.
        tar: file to write.
        change: applied to the recorded configuration, e.g. to correct paths.

    Raises:
        ValueError: if the folder is neither, or one of its files cannot be used.
    """
    run = RunFolder(source)
    if run.config.exists():
        content = yaml.safe_load(run.config.read_text(encoding="utf-8"))
        config = change(read_dict(DetailConfig, content, str(run.config)))
        networks, found = _detail_run(run, config)
    else:
        config = change(read_detail_config(source))
        networks = fresh_networks(config)
        load_pretrained(source, networks)
        report, classifier = read_report(source), source / "au_classifier.safetensors"
        found = DetailContent(updates=report.get("updates", 0), settings=_settings(report.get("settings", {})))
        found.optimizers = {key: _states(source, name) for key, name in OPTIMIZERS.items()}
        found.emoca = _emoca(source)
        found.classifier = read_tensors(classifier) if classifier.exists() else None
    found.settings = {key: found.settings.get(key) or settings for key, settings in _adam(config).items()}
    size = config.data.batch_size
    notes = write_detail_tar(tar, networks, found, batch_size=size, config=to_dict(config))
    return [f"{source} after {found.updates} steps -> {tar}", *notes]


def _detail_run(run: RunFolder, config: DetailConfig) -> tuple[Mapping[str, nn.Module], DetailContent]:
    networks, classifier = fresh_networks(config), build_classifier(config).requires_grad_(False)
    parts = nn.ModuleDict({PARTS[name]: network for name, network in networks.items()})
    fill_frozen(networks, config)
    pretrained = config.model.pretrained
    if pretrained is not None:
        load_pretrained(pretrained, networks, classifier)
    checkpoint = fill_from_run(run, nn.ModuleDict({"model": parts, "au_classifier": classifier}))
    described = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
    groups = dict(zip(OPTIMIZERS, described["param_groups"], strict=True))
    return networks, DetailContent(
        updates=described["step"],
        optimizers={key: _states(checkpoint, name) for key, name in OPTIMIZERS.items()},
        settings=_settings(groups),
        emoca={} if pretrained is None else _emoca(pretrained),
        classifier=legacy_state(classifier, CLASSIFIER),
    )


def _adam(config: DetailConfig) -> dict[str, dict[str, Any]]:
    """Adam's settings of a configuration, by legacy key, complete."""
    train, groups = config.train, {}
    for key, lr in (("G", train.lr_generator), ("D", train.lr_discriminator)):
        optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=lr, betas=(train.beta1, train.beta2))
        groups[key] = optimizer.state_dict()["param_groups"][0]
    return _settings(groups)


def _settings(groups: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Without the parameters, and with the tuples that JSON turned into lists."""
    return {
        key: {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in group.items()
            if name != "params"
        }
        for key, group in groups.items()
    }


def _coarse_states(tar: Path, content: Mapping[str, Any], sequence: nn.Module) -> ParameterStates:
    states = content.get("opt", {}).get("state", {})
    shapes = [parameter.shape for parameter in sequence.parameters()]
    for index, values in states.items():
        fits = type(index) is int and index < len(shapes) and values["exp_avg"].shape == shapes[index]
        if not fits:
            raise CheckpointError(f"{tar}: the optimizer state of parameter {index} does not fit BiViT")
    return {index: {name: torch.as_tensor(value) for name, value in values.items()} for index, values in states.items()}


def _latest(run: RunFolder) -> Path:
    checkpoint = latest_checkpoint(run.checkpoints)
    assert checkpoint is not None, "the model of this run could be opened"
    return checkpoint


def _states(folder: Path, name: str) -> ParameterStates:
    file = folder / f"{name}.safetensors"
    return read_optimizer(file) if file.exists() else {}


def _emoca(folder: Path) -> dict[str, Tensor]:
    file = folder / "emoca.safetensors"
    return read_tensors(file) if file.exists() else {}
