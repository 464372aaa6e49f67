import json
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from modern.train.state import CheckpointError, moving_statistics, trained_state
from tests.modern.train.test_resume import ROOT, final_state, logged
from tests.modern.train.tiny_detail import TinyDetailStep, make_trainer

FIGURES = ("photo_detail", "au_feature_loss", "all_loss", "D_loss", "G_loss")


def train(clips: Path, out: Path, steps: int, workers: int) -> None:
    """Train in a fresh process, as after a crash or on another day."""
    command = [sys.executable, "-m", "tests.modern.train.tiny_detail", str(clips), str(out), str(steps), str(workers)]
    subprocess.run(command, cwd=ROOT, check=True)


def go_back(run: Path, step: int) -> None:
    (run / "checkpoints" / "latest").write_text(f"{step:08}")


@pytest.mark.parametrize(("workers", "first"), [(0, 4), (2, 5)])
def test_a_run_in_two_processes_equals_one_in_one_go(clips: Path, tmp_path: Path, workers: int, first: int) -> None:
    """Bitwise: weights, moving statistics, both optimizers, generators, every logged figure; across an epoch's end."""
    train(clips, tmp_path / "whole", 7, workers)
    train(clips, tmp_path / "parts", first, workers)
    train(clips, tmp_path / "parts", 7, 2 - workers)
    whole = final_state(tmp_path / "whole")
    assert whole == final_state(tmp_path / "parts")
    assert logged(tmp_path / "whole") == logged(tmp_path / "parts")
    assert {name.partition(":")[0] for name in whole if ":" in name} == {
        "model.safetensors",
        "optimizer_generator.safetensors",
        "optimizer_discriminator.safetensors",
    }
    assert "model.safetensors:model.action_units.1.running_mean" in whole
    assert "model.safetensors:au_classifier.1.num_batches_tracked" in whole
    assert "model.safetensors:model.action_units.0.weight" not in whole  # frozen: from its own file


@pytest.mark.parametrize("step", [2, 5])
def test_a_checkpoint_from_the_middle_leads_to_the_same_end(clips: Path, tmp_path: Path, step: int) -> None:
    """It is written after the forward pass of its step, which has already moved the statistics."""
    make_trainer(clips, tmp_path / "whole", max_steps=8).fit()
    shutil.copytree(tmp_path / "whole", tmp_path / "crashed")
    go_back(tmp_path / "crashed", step)
    trainer = make_trainer(clips, tmp_path / "crashed", max_steps=8)
    assert trainer.done == step
    trainer.fit()
    assert final_state(tmp_path / "crashed") == final_state(tmp_path / "whole")


def test_statistics_from_after_the_forward_pass_would_not(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control of the test above."""
    monkeypatch.setattr("modern.train.trainer.moving_statistics", lambda model: {})
    make_trainer(clips, tmp_path / "whole", max_steps=8).fit()
    shutil.copytree(tmp_path / "whole", tmp_path / "crashed")
    go_back(tmp_path / "crashed", 2)
    make_trainer(clips, tmp_path / "crashed", max_steps=8).fit()
    assert final_state(tmp_path / "crashed") != final_state(tmp_path / "whole")


@pytest.mark.parametrize("lost", ["generator", "discriminator", "statistics", "position"])
def test_each_part_of_the_state_matters(clips: Path, tmp_path: Path, lost: str) -> None:
    make_trainer(clips, tmp_path / "whole", max_steps=7).fit()
    make_trainer(clips, tmp_path / "parts", max_steps=4).fit()
    checkpoint = tmp_path / "parts" / "checkpoints" / "00000004"
    if lost == "position":
        described = json.loads((checkpoint / "state.json").read_text())
        (checkpoint / "state.json").write_text(json.dumps({**described, "step": 3}))
    else:
        file = checkpoint / ("model.safetensors" if lost == "statistics" else f"optimizer_{lost}.safetensors")
        wanted = "running_var" if lost == "statistics" else "exp_avg"
        changed = {name: value * (0.5 if name.endswith(wanted) else 1) for name, value in load_file(file).items()}
        save_file({name: value.contiguous() for name, value in changed.items()}, file)
    make_trainer(clips, tmp_path / "parts", max_steps=7).fit()
    assert final_state(tmp_path / "whole") != final_state(tmp_path / "parts")


@pytest.mark.parametrize("damage", ["truncated", "missing", "swapped"])
def test_a_damaged_optimizer_is_named(clips: Path, tmp_path: Path, damage: str) -> None:
    make_trainer(clips, tmp_path / "run", max_steps=2).fit()
    path = tmp_path / "run" / "checkpoints" / "00000002" / "optimizer_discriminator.safetensors"
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-9])
    else:
        shutil.copy(path.with_name("optimizer_generator.safetensors"), path)
    message = "belongs to another model" if damage == "swapped" else r"00000002.*resume from another step"
    with pytest.raises(CheckpointError, match=message):
        make_trainer(clips, tmp_path / "run", max_steps=4)


def test_figures_of_both_updates_are_logged_and_validation_has_the_losses(clips: Path, tmp_path: Path) -> None:
    make_trainer(clips, tmp_path / "run", max_steps=3).fit()
    lines = (tmp_path / "run" / "logs" / "train.log").read_text().splitlines()
    train = [line for line in lines if " train step " in line]
    assert all(f"{name}: " in line for line in train for name in FIGURES)
    tags = set(EventAccumulator(str(tmp_path / "run" / "logs")).Reload().Tags()["scalars"])
    assert tags == {f"train_loss/{name}" for name in FIGURES} | {f"val_loss/{name}" for name in FIGURES[:3]}


def test_validation_moves_nothing(clips: Path, tmp_path: Path) -> None:
    trainer = make_trainer(clips, tmp_path / "run", max_steps=2)
    trainer.fit()
    model, random = trainer._step.model, torch.get_rng_state()
    before = {name: value.clone() for name, value in trained_state(model).items()}
    assert trainer.validate() == trainer.validate()
    assert all(torch.equal(before[name], value) for name, value in trained_state(model).items())
    assert torch.equal(torch.get_rng_state(), random)
    assert model["au_classifier"][1].training
    assert len(moving_statistics(model)) == 2 * 3


def test_an_update_that_is_not_finite_stops_and_is_not_saved(clips: Path, tmp_path: Path) -> None:
    poisoned = partial(TinyDetailStep, poison=3)
    trainer = make_trainer(clips, tmp_path / "run", max_steps=9, step_type=poisoned, validation=0.0)
    with pytest.raises(FloatingPointError, match=r"step 3: G_loss not finite on the clip\(s\) from .*/images/"):
        trainer.fit()
    assert (tmp_path / "run" / "checkpoints" / "latest").read_text() in {"00000002", "00000003"}


def test_ctrl_c_finishes_both_updates_and_saves(clips: Path, tmp_path: Path) -> None:
    class Interrupting(TinyDetailStep):
        def update_discriminator(self, output, optimizers):
            if self._updates == 4:
                signal.raise_signal(signal.SIGINT)
            return super().update_discriminator(output, optimizers)

    make_trainer(clips, tmp_path / "whole", max_steps=7, validation=0.0).fit()
    trainer = make_trainer(clips, tmp_path / "run", max_steps=7, step_type=Interrupting, validation=0.0)
    assert not trainer.fit()
    assert trainer.done == 5
    continued = make_trainer(clips, tmp_path / "run", max_steps=7, validation=0.0)
    assert continued.done == 5
    assert continued.fit()
    assert final_state(tmp_path / "whole") == final_state(tmp_path / "run")
