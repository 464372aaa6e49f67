"""Legacy's own loaders over given clips, for what they draw: the trainers' `prepare_data`, without any network."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from parity.legacy_build import import_legacy
from parity.legacy_detail_build import import_legacy_detail

IMAGES = 2  # of one identity in an item of the detail stage


def fetch_coarse(clips: Sequence[Path]) -> None:
    """One epoch as AU_sequence's trainer prepares and reads it; its roots are literal, so the search is answered."""
    trainer, datasets = import_legacy("trainer_Video_OnlyExpress"), import_legacy("datasets.build_datasets_video")
    with _answered(datasets, "MEAD", [f"{clip}/masks/" for clip in clips]) as config:
        _fetch(trainer.Trainer, config)


def fetch_detail(clips: Sequence[Path]) -> None:
    """One epoch as AUcGAN's trainer prepares and reads it."""
    trainer = import_legacy_detail("trainer_EM_AU_enc_dec_origT_aucGAN")
    datasets = import_legacy_detail("datasets.build_datasets")
    with _answered(datasets, "identities_K", [f"{clip}/masks" for clip in clips]) as config:
        _fetch(trainer.Trainer, config)


def _fetch(trainer: Any, config: SimpleNamespace) -> None:
    holder = SimpleNamespace(cfg=SimpleNamespace(dataset=config), batch_size=1)
    with mock.patch("loguru.logger.info"):
        trainer.prepare_data(holder)
    for _ in holder.train_iter:
        pass


@contextmanager
def _answered(datasets: Any, root: str, found: list[str]) -> Iterator[SimpleNamespace]:
    """The data set's configuration, while searches below its literal roots find `found` or nothing."""

    def search(pattern: str) -> list[str]:
        if Path(pattern).is_relative_to(Path(found[0]).parents[1]):
            folder, _, name = pattern.rpartition("/")
            return sorted(map(str, Path(folder).glob(name)))
        return list(found) if root in pattern else []

    with tempfile.TemporaryDirectory() as scratch, mock.patch.object(datasets, "glob", search):
        np.savez(Path(scratch) / "points.npz", landmark_indices=np.arange(105))
        names = {"K": IMAGES, "image_size": 224, "scale_min": 1.0, "scale_max": 1.0, "trans_scale": 0.0}
        yield SimpleNamespace(
            **names,
            training_data=["selfDataset"],
            mediapipePath=f"{scratch}/points.npz",
            isSingle=False,
            num_workers=0,
        )
