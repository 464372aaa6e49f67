import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from modern.train.state import CheckpointError
from tests.modern.train.tiny import make_trainer

ROOT = Path(__file__).resolve().parents[3]


def train(clips: Path, out: Path, steps: int, workers: int) -> None:
    """Train in a fresh process, as after a crash or on another day."""
    command = [sys.executable, "-m", "tests.modern.train.tiny", str(clips), str(out), str(steps), str(workers)]
    subprocess.run(command, cwd=ROOT, check=True)


def final_state(out: Path) -> dict[str, bytes]:
    checkpoint = out / "checkpoints" / (out / "checkpoints" / "latest").read_text()
    tensors = {path.name: load_file(path) for path in checkpoint.glob("*.safetensors")}
    digest = {f"{file}:{key}": each[key].numpy().tobytes() for file, each in tensors.items() for key in each}
    random = json.loads((checkpoint / "state.json").read_text())["random"]
    return digest | {name: json.dumps(state).encode() for name, state in random.items()}


def logged(out: Path) -> set[str]:
    """Lines of losses without their time; a step done again after resuming must log the same."""
    lines = (out / "logs" / "train.log").read_text().splitlines()
    return {line[20:] for line in lines if " step " in line and "all_loss" in line}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_in_two_processes_equals_one_in_one_go(clips: Path, tmp_path: Path, workers: int) -> None:
    """Bitwise: weights, Adam's moments, generators and every logged loss; with dropout, across an epoch's end."""
    train(clips, tmp_path / "whole", 7, workers)
    train(clips, tmp_path / "parts", 4, workers)
    train(clips, tmp_path / "parts", 7, 2 - workers)
    assert final_state(tmp_path / "whole") == final_state(tmp_path / "parts")
    assert logged(tmp_path / "whole") == logged(tmp_path / "parts")
    assert len(logged(tmp_path / "whole")) == 7 + 2


def test_a_checkpoint_from_the_middle_leads_to_the_same_end(clips: Path, tmp_path: Path) -> None:
    """Going back to step 4 drops the later checkpoints and repeats the later steps."""
    make_trainer(clips, tmp_path / "whole", max_steps=8).fit()
    crashed = tmp_path / "crashed"
    shutil.copytree(tmp_path / "whole", crashed)
    make_trainer(clips, tmp_path / "short", max_steps=4).fit()
    shutil.copytree(tmp_path / "short" / "checkpoints" / "00000004", crashed / "checkpoints" / "00000004")
    (crashed / "checkpoints" / "latest").write_text("00000004")
    (crashed / "checkpoints" / ".4711.00000006").mkdir()  # was being written
    trainer = make_trainer(clips, crashed, max_steps=8)
    assert trainer.done == 4
    assert sorted(path.name for path in (crashed / "checkpoints").iterdir()) == ["00000002", "00000004", "latest"]
    trainer.fit()
    assert final_state(crashed) == final_state(tmp_path / "whole")


@pytest.mark.parametrize("lost", ["moments", "generator", "position"])
def test_each_part_of_the_state_matters(clips: Path, tmp_path: Path, lost: str) -> None:
    """Negative control: a resume that forgets one part must not reach the same end."""
    make_trainer(clips, tmp_path / "whole", max_steps=7).fit()
    make_trainer(clips, tmp_path / "parts", max_steps=4).fit()
    checkpoint = tmp_path / "parts" / "checkpoints" / "00000004"
    described = json.loads((checkpoint / "state.json").read_text())
    if lost == "moments":
        moments = load_file(checkpoint / "optimizer.safetensors")
        zeros = {name: value if name.endswith("step") else torch.zeros_like(value) for name, value in moments.items()}
        save_file(zeros, checkpoint / "optimizer.safetensors")
    elif lost == "generator":
        described["random"]["torch"] = json.loads(
            (tmp_path / "parts" / "checkpoints" / "00000002" / "state.json").read_text()
        )["random"]["torch"]
    else:
        described["step"] = 3
    (checkpoint / "state.json").write_text(json.dumps(described))
    make_trainer(clips, tmp_path / "parts", max_steps=7).fit()
    assert final_state(tmp_path / "whole") != final_state(tmp_path / "parts")


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_damaged_checkpoint_is_named(clips: Path, tmp_path: Path, file: str, damage: str) -> None:
    make_trainer(clips, tmp_path / "run", max_steps=2).fit()
    path = tmp_path / "run" / "checkpoints" / "00000002" / file
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=r"00000002.*resume from another step"):
        make_trainer(clips, tmp_path / "run", max_steps=4)


def test_other_frozen_weights_are_refused(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_trainer(clips, tmp_path / "run", max_steps=2).fit()
    monkeypatch.setattr("tests.modern.train.tiny.seed_everything", lambda seed: torch.manual_seed(seed + 1))
    with pytest.raises(CheckpointError, match="other frozen weights"):
        make_trainer(clips, tmp_path / "run", max_steps=4)


def test_a_folder_is_not_overwritten(clips: Path, tmp_path: Path) -> None:
    make_trainer(clips, tmp_path / "run", max_steps=2).fit()
    before = final_state(tmp_path / "run")
    with pytest.raises(ValueError, match="already holds a run; continue it with resume"):
        make_trainer(clips, tmp_path / "run", max_steps=2, resume=False)
    with pytest.raises(ValueError, match="clips are no longer the same"):
        make_trainer(clips, tmp_path / "run", max_steps=2, validation=0.5)
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace("lr: 0.01", "lr: 0.02"))
    with pytest.raises(ValueError, match=r"other settings \(train.lr: 0.02 then, 0.01 now\)"):
        make_trainer(clips, tmp_path / "run", max_steps=2)
    assert final_state(tmp_path / "run") == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("")
    with pytest.raises(ValueError, match="not empty and holds no run"):
        make_trainer(clips, tmp_path / "other", max_steps=2)
