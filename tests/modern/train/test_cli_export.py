"""A coarse run out to legacy's format and in again, with the real networks."""

import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.modern.train.test_cli import ROOT, run_cli, train, weights  # noqa: F401 - a fixture


@pytest.mark.slow
def test_an_exported_run_is_imported_and_continued_with_its_moments(
    weights: Path,  # noqa: F811
    clips: Path,
    tmp_path: Path,
) -> None:
    subprocess.run(train(weights, clips, tmp_path / "run", 2), cwd=ROOT, check=True)
    tar, imported = tmp_path / "exported.tar", tmp_path / "imported"
    result = run_cli("export", tmp_path / "run", tar)
    assert result.returncode == 0, result.stderr
    content = torch.load(tar, weights_only=True)
    assert list(content) == ["E_flame", "BiViT", "opt", "global_step", "batch_size"]
    assert (len(content["E_flame"]), len(content["BiViT"]), len(content["opt"]["state"])) == (322, 116, 116)
    assert content["global_step"] == 2
    result = run_cli("import", tar, imported, "--config", weights / "config.yaml")
    assert result.returncode == 0, result.stderr
    assert "opt: optimizer state of 116 parameters" in result.stdout
    checkpoint = tmp_path / "run" / "checkpoints" / "00000002"
    taken, trained = load_file(imported / "model.safetensors"), load_file(checkpoint / "model.safetensors")
    assert all(torch.equal(taken[name], value) for name, value in trained.items())
    more = ("--set", f"model.pretrained={imported}")
    subprocess.run([*train(weights, clips, tmp_path / "more", 1), *more], cwd=ROOT, check=True)
    assert load_file(tmp_path / "more" / "checkpoints" / "00000001" / "optimizer.safetensors")["0/step"] == 3
    assert "opt: optimizer state of 116 parameters" in (tmp_path / "more" / "logs" / "train.log").read_text()
