import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from fixtures.weights import seeded_weights
from modern import __main__ as cli
from modern.config import to_dict
from modern.config_detail import DetailConfig
from modern.train.detail_stage import AlternatingUpdate, IdentityStep
from modern.train.stage import Stage
from tests.modern.data.clip_files import write_clip
from tests.modern.train.test_cli import ROOT, run_cli
from tests.modern.train.test_resume import final_state, logged
from tests.modern.train.tiny_detail import TinyDetailStep, make_trainer


def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["modern", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    return int(exit_.value.code or 0), capsys.readouterr().err


@pytest.fixture
def tiny_stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command line with real data loading and stand-in networks."""

    def stage(config: DetailConfig, split: object, device: object) -> Stage:
        made = make_trainer(config.data.sources[0].root, tmp_path / "made", max_steps=1, per_item=config.data.images)
        step: TinyDetailStep = made._step._step
        assert isinstance(made._step, IdentityStep)
        assert isinstance(made._update, AlternatingUpdate)
        return Stage(
            step=IdentityStep(step),
            update=made._update,
            loaders=made._loaders,
            frozen=(),
            draw=lambda sample, output: np.zeros((8, 8, 3), np.uint8),
        )

    monkeypatch.setattr("modern.train.run.detail_stage", stage)


def options(data: Path, out: Path, yml: Path) -> tuple[object, ...]:
    steps = ("--set", "train.max_steps=2", "--set", "data.workers=0", "--set", "data.validation_fraction=0.25")
    return ("train", "--pipeline", "detail", "--config", yml, "--data", data, "--out", out, *steps, "--device", "cpu")


def test_train_takes_a_legacy_yml(
    clips: Path, tmp_path: Path, tiny_stage: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.yml").write_text("dataset:\n  K: 2\n  batch_size: 1\nloss:\n  reg_sym: 5e-6\n")
    code, err = call(monkeypatch, capsys, *options(clips, tmp_path / "run", tmp_path / "run.yml"))
    assert (code, "finished after 2 steps" in err) == (0, True)
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (written["pipeline"], written["data"]["images"], written["loss"]["symmetry"]) == ("detail", 2, 5e-6)
    own = tmp_path / "run" / "config.yaml"
    code, err = call(monkeypatch, capsys, "train", "--config", own, "--out", tmp_path / "other")
    assert (code, "pass --pipeline detail" in err, err.count("\n")) == (2, True, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dataset:\n  k: 2\n", "unknown key 'dataset.k'"),
        ("dataset:\n  K: 9\n", "images, an item needs 9"),
        ("!!python/object/apply:os.mkdir [ran]\n", "is not plain YAML"),
    ],
)
def test_bad_settings_end_in_one_line_and_exit_code_2(
    clips: Path,
    tmp_path: Path,
    tiny_stage: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str,
    message: str,
) -> None:
    (tmp_path / "run.yml").write_text(text)
    code, err = call(monkeypatch, capsys, *options(clips, tmp_path / "run", tmp_path / "run.yml"))
    assert (code, err.count("\n")) == (2, 1)
    assert message in err
    assert not (tmp_path / "run").exists()


def test_a_wrong_sized_image_ends_in_one_line_and_exit_code_2(
    tmp_path: Path, tiny_stage: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in range(2):
        folder = write_clip(tmp_path / "people" / f"person{index}", frames=2)
        Image.new("RGB", (224, 200)).save(folder / "images" / "0001.png")
    (tmp_path / "run.yml").write_text("dataset:\n  K: 2\n")
    code, err = call(monkeypatch, capsys, *options(tmp_path / "people", tmp_path / "run", tmp_path / "run.yml"))
    assert code == 2
    assert "0001.png: image is 224x200 pixels, expected a square; crop the face to 224x224" in err.splitlines()[-1]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration with weight files as the lab has them, weights rebuilt from names."""
    folder = tmp_path_factory.mktemp("weights")
    state = seeded_weights()
    torch.save({"E_flame": state["E_flame"]}, folder / "deca.tar")
    torch.save({"state_dict": {f"module.{key}": value for key, value in state["AU_net"].items()}}, folder / "au.pth")
    content = to_dict(DetailConfig())
    content["model"] |= {
        "head": str(ROOT / "fixtures" / "assets" / "head.npz"),
        "encoder_weights": str(folder / "deca.tar"),
        "au_weights": str(folder / "au.pth"),
    }
    content["data"] |= {"workers": 1, "batch_size": 1, "images": 2}
    content["train"] |= {"log_steps": 1, "vis_steps": 2, "checkpoint_steps": 2}
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    return folder / "config.yaml"


def command(settings: Path, clips: Path, out: Path, *more: str) -> list[str]:
    start = ("train", "--pipeline", "detail", "--config", settings, "--data", clips, "--out", out, "--device", "cpu")
    return [sys.executable, "-m", "modern", *map(str, start), "--set", "train.max_steps=3", *more]


@pytest.mark.slow
def test_the_real_networks_interrupted_end_where_they_would_have(settings: Path, clips: Path, tmp_path: Path) -> None:
    """Ctrl-C after the first step, then the same command again: bitwise the same end. Then the run is exported,
    imported, predicted with and trained on."""
    quiet = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command(settings, clips, tmp_path / "whole"), cwd=ROOT, check=True, env=quiet)
    again = command(settings, clips, tmp_path / "parts")
    process = subprocess.Popen(again, cwd=ROOT, start_new_session=True, env=quiet)
    log = tmp_path / "parts" / "logs" / "train.log"
    while not (log.exists() and "train step 0 " in log.read_text()):
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait() == 130
    assert 0 < int((tmp_path / "parts" / "checkpoints" / "latest").read_text()) < 3
    subprocess.run(again, cwd=ROOT, check=True, env=quiet)
    assert final_state(tmp_path / "whole") == final_state(tmp_path / "parts")
    whole, parts = (logged(tmp_path / name) for name in ("whole", "parts"))
    assert {line.removeprefix("whole") for line in whole} == {line.removeprefix("parts") for line in parts}
    assert [path.name for path in sorted((tmp_path / "whole" / "train_images").iterdir())] == [
        "000000.jpg",
        "000002.jpg",
    ]

    tar, imported = tmp_path / "model.tar", tmp_path / "imported"
    result = run_cli("export", tmp_path / "whole", tar, "--pipeline", "detail")
    assert result.returncode == 0, result.stderr
    content = torch.load(tar, weights_only=True)
    assert len(content["AUNet"]) == 525
    assert sorted(content["D"]["state"]) == list(range(2, 12))
    result = run_cli("import", tar, imported, "--pipeline", "detail", "--config", settings)
    assert result.returncode == 0, result.stderr
    trained = load_file(next((tmp_path / "whole" / "checkpoints").glob("00000003/model.safetensors")))
    taken = load_file(imported / "model.safetensors")
    own = {key.removeprefix("model."): value for key, value in trained.items() if key.startswith("model.")}
    assert all(torch.equal(taken[key], value) for key, value in own.items())
    classifier = load_file(imported / "au_classifier.safetensors")
    assert torch.equal(classifier["backbone.bn1.running_mean"], trained["au_classifier.trunk.bn1.running_mean"])

    continued = command(settings, clips, tmp_path / "more", "--set", f"model.pretrained={imported}")
    subprocess.run([*continued, "--set", "train.max_steps=1"], cwd=ROOT, check=True, env=quiet)
    moments = load_file(tmp_path / "more" / "checkpoints" / "00000001" / "optimizer_discriminator.safetensors")
    assert moments["0/step"] == 4
    result = run_cli("predict", tmp_path / "more", clips / "clip0", tmp_path / "out", "--pipeline", "detail")
    assert result.returncode == 0, result.stderr
    prediction = load_file(tmp_path / "out" / "prediction.safetensors")
    assert prediction["uv_z"].shape == (3, 1, 256, 256)
    assert prediction["detail"].shape == (3, 128)
    assert prediction["vertices"].shape == (3, 5023, 3)
    assert len(list((tmp_path / "out" / "pictures").iterdir())) == 3
