"""The folder of a run: where its files go, and whether it may be used.

- `config.yaml`: the configuration, complete; `split.json`: the clips of training and validation
- `logs/`: `train.log` and TensorBoard events; `train_images/`: pictures by step
- `checkpoints/`: one folder per kept step, and `latest`, which names the newest
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from modern.train.files import write_text

# Settings that may differ when a run is continued: how long, how often and where, but not the numbers of a step.
RESUMABLE = frozenset(
    {
        "ignored",
        "data.workers",
        "train.output_dir",
        "train.max_epochs",
        "train.max_steps",
        "train.log_steps",
        "train.vis_steps",
        "train.checkpoint_steps",
        "train.write_summary",
        "train.resume",
    }
)


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run."""

    path: Path

    @property
    def config(self) -> Path:
        """The configuration."""
        return self.path / "config.yaml"

    @property
    def split(self) -> Path:
        """Which clips are used for what."""
        return self.path / "split.json"

    @property
    def logs(self) -> Path:
        """Folder of text log and TensorBoard events."""
        return self.path / "logs"

    @property
    def pictures(self) -> Path:
        """Folder of pictures."""
        return self.path / "train_images"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoints"


def open_run(path: Path, config: Mapping[str, Any], split: Mapping[str, list[str]], *, resume: bool) -> RunFolder:
    """Prepare the folder of a run, or check that an existing one may be continued.

    Args:
        path: the folder; created if missing.
        config: everything that defines the run, nested; values as YAML and JSON can hold them.
        split: as `Split.record` gives it.
        resume: whether to continue a run found there.

    Raises:
        ValueError: if the folder holds something else, holds a run and `resume` is off, or holds a run of other
            settings or clips.
    """
    run = RunFolder(path)
    if run.config.exists():
        if not resume:
            raise ValueError(f"{path} already holds a run; continue it with resume, or choose another folder")
        _check_same(run, config, split)
    elif path.exists() and any(path.iterdir()):
        raise ValueError(f"{path} is not empty and holds no run (no config.yaml); choose another folder")
    for folder in (run.logs, run.pictures, run.checkpoints):
        folder.mkdir(parents=True, exist_ok=True)
    write_text(run.split, json.dumps(split, indent=1))
    write_text(run.config, yaml.safe_dump(dict(config), sort_keys=False))
    return run


def _check_same(run: RunFolder, config: Mapping[str, Any], split: Mapping[str, list[str]]) -> None:
    before, now = _flatten(yaml.safe_load(run.config.read_text())), _flatten(config)
    differing = [
        f"{key}: {before.get(key)!r} then, {now.get(key)!r} now"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and key not in RESUMABLE
    ]
    if differing:
        raise ValueError(f"{run.path} holds a run with other settings ({'; '.join(differing)}); choose another folder")
    recorded = json.loads(run.split.read_text())
    if recorded != split:
        counts = ", ".join(f"{name} {len(recorded[name])} then, {len(split[name])} now" for name in split)
        raise ValueError(f"{run.split}: the clips are no longer the same ({counts}); restore them or start a new run")


def _flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
