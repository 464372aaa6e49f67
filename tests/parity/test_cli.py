"""Bad input ends in one clear line and exit code 2, before anything is written."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
FRAMES = 3


def parity(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "parity", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"NO_COLOR": "1", "COLUMNS": "200"} | environment,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def clip(tmp_path):
    """A synthetic clip in the lab's layout."""
    random = np.random.default_rng(0)
    folder = tmp_path / "clip"
    for kind in ("images", "kpts", "kpts_dense", "masks"):
        (folder / kind).mkdir(parents=True)
    for index in range(FRAMES):
        name = f"{index:04d}"
        Image.fromarray(random.integers(0, 256, (224, 224, 3), dtype=np.uint8)).save(folder / "images" / f"{name}.png")
        for kind, count in (("kpts", 68), ("kpts_dense", 478)):
            points = np.concatenate([random.uniform(-0.7, 0.7, (count, 2)), np.ones((count, 1))], axis=1)
            np.save(folder / kind / f"{name}.npy", points.astype(np.float32))
        np.save(folder / "masks" / f"{name}.npy", random.integers(0, 14, (224, 224), dtype=np.uint8))
    return folder


def refused(run, out, *words):
    assert run.returncode == 2, run.stderr
    assert "Traceback" not in run.stderr
    for word in words:
        assert word in run.stderr
    assert not out.exists() or not list(out.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--batch", "nowhere"], ["nowhere"]),
        (["--stages", "encoder,colour"], ["unknown stage colour", "encoder"]),
        (["--device", "cuda:7"], ["cuda:7"]),
    ],
)
def test_unusable_requests(arguments, words, tmp_path):
    refused(parity("run", *arguments, "--out", tmp_path / "out", CUDA_VISIBLE_DEVICES=""), tmp_path / "out", *words)


def test_a_clip_with_nan_landmarks(clip, tmp_path):
    path = clip / "kpts" / "0001.npy"
    points = np.load(path)
    points[5, 0] = np.nan
    np.save(path, points)
    refused(parity("run", "--batch", clip, "--out", tmp_path / "out"), tmp_path / "out", "0001.npy", "NaN")


@pytest.mark.parametrize("size", [(200, 200), (224, 100), (448, 448)])
def test_a_wrong_sized_image(clip, tmp_path, size):
    path = clip / "images" / "0002.png"
    Image.open(path).resize(size).save(path)
    refused(parity("run", "--batch", clip, "--out", tmp_path / "out"), tmp_path / "out", "0002.png", "224")


def test_a_pickled_mask_is_not_executed(clip, tmp_path):
    marker = tmp_path / "executed"

    class Payload:
        def __reduce__(self):
            return Path.touch, (marker,)

    (clip / "masks" / "0000.npy").write_bytes(pickle.dumps(Payload()))
    refused(parity("run", "--batch", clip, "--out", tmp_path / "out"), tmp_path / "out", "0000.npy")
    assert not marker.exists()


def test_conform_says_what_a_folder_lacks(tmp_path):
    run = parity("conform", tmp_path)
    assert run.returncode == 2
    assert str(tmp_path) in run.stdout.replace("\n", "")  # part of the report, which wraps on a terminal
    assert "Traceback" not in run.stderr


def test_show_refuses_a_truncated_results_file(tmp_path):
    (tmp_path / "results.json").write_text('{"schema": 1, "answer"')
    run = parity("show", tmp_path / "results.json")
    assert run.returncode == 2
    assert "results.json" in run.stderr
