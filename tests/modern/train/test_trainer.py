import json
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from modern.train.state import trained_state
from modern.train.trainer import Trainer
from tests.modern.train.tiny import TinyStep, make_trainer

TERMS = ("landmark", "size", "all_loss")


def test_max_steps_stops_and_max_epochs_does(clips: Path, tmp_path: Path) -> None:
    first = make_trainer(clips, tmp_path / "a", max_steps=4)
    assert first.fit()
    assert first.done == 4
    second = make_trainer(clips, tmp_path / "b", max_steps=10**18, max_epochs=2)
    assert second.fit()
    assert second.done == 2 * 3


def test_every_loss_reaches_log_and_tensorboard(clips: Path, tmp_path: Path) -> None:
    make_trainer(clips, tmp_path / "run", max_steps=3).fit()
    lines = (tmp_path / "run" / "logs" / "train.log").read_text().splitlines()
    train = [line for line in lines if " train step " in line]
    assert [line.split(" train step ")[1].split(" ")[0] for line in train] == ["0", "1", "2"]
    assert all(f"{term}: " in line for line in train for term in TERMS)
    assert "(epoch 0, 3/3)" in train[-1]
    events = EventAccumulator(str(tmp_path / "run" / "logs")).Reload()
    tags = {f"{split}_loss/{term}" for split in ("train", "val") for term in TERMS}
    assert set(events.Tags()["scalars"]) == tags
    logged = float(train[1].split("all_loss: ")[1])
    assert np.float32(logged) == np.float32(events.Scalars("train_loss/all_loss")[1].value)
    assert [event.step for event in events.Scalars("val_loss/all_loss")] == [3]


def test_a_checkpoint_of_step_g_holds_the_weights_before_update_g(clips: Path, tmp_path: Path) -> None:
    """Written at steps 2, 3, 4, 6, 7 and at the end; those of the last step of an epoch (3, 7) stay."""
    seen = {}

    class Spy(TinyStep):
        def losses(self, clips):
            seen[len(seen)] = {name: value.clone() for name, value in trained_state(self.model).items()}
            return super().losses(clips)

    trainer = make_trainer(clips, tmp_path / "run", max_steps=8, step_type=Spy, validation=0.0)
    trainer.fit()
    folder = tmp_path / "run" / "checkpoints"
    assert trainer.done == 8
    assert sorted(path.name for path in folder.iterdir()) == ["00000003", "00000007", "00000008", "latest"]
    for step in (3, 7):
        saved = load_file(folder / f"{step:08}" / "model.safetensors")
        assert all(torch.equal(saved[name], seen[step][name]) for name in seen[step])
        assert json.loads((folder / f"{step:08}" / "state.json").read_text())["step"] == step


def test_a_picture_is_written_where_one_is_due(clips: Path, tmp_path: Path) -> None:
    trainer = make_trainer(clips, tmp_path / "run", max_steps=4, log_steps=2, vis_steps=4)
    trainer._draw = lambda clip, output: np.full((8, 224, 3), (250, 0, 0), np.uint8)
    trainer.fit()
    pictures = sorted((tmp_path / "run" / "train_images").iterdir())
    assert [path.name for path in pictures] == ["000000.jpg", "000002.jpg"]
    red = np.asarray(Image.open(pictures[0])).reshape(-1, 3).mean(axis=0)
    assert red[0] > 240
    assert red[2] < 10


def test_validation_draws_nothing_and_restores_the_modes(clips: Path, tmp_path: Path) -> None:
    trainer = make_trainer(clips, tmp_path / "run", max_steps=1)
    before = torch.get_rng_state()
    assert trainer.validate() == trainer.validate()
    assert torch.equal(torch.get_rng_state(), before)
    model = trainer._step.model
    assert model.trained.training
    assert not model.frozen.training
    assert set(trainer.validate()) == set(TERMS)


def test_validation_without_clips_says_what_to_set(clips: Path, tmp_path: Path) -> None:
    trainer = make_trainer(clips, tmp_path / "run", max_steps=1, validation=0.0)
    with pytest.raises(ValueError, match="set validation_fraction"):
        trainer.validate()


def test_a_loss_that_is_not_finite_stops_before_the_update(clips: Path, tmp_path: Path) -> None:
    poisoned = partial(TinyStep, poison=3)
    trainer = make_trainer(clips, tmp_path / "run", max_steps=9, step_type=poisoned, validation=0.0)
    with pytest.raises(FloatingPointError, match=r"step 3: size, all_loss not finite on the clip\(s\) from .*/images/"):
        trainer.fit()
    assert all(torch.isfinite(tensor).all() for tensor in trained_state(trainer._step.model).values())
    assert (tmp_path / "run" / "checkpoints" / "latest").read_text() == "00000002"


def test_ctrl_c_finishes_the_step_and_saves(clips: Path, tmp_path: Path) -> None:
    class Interrupting(TinyStep):
        def losses(self, clips):
            if self._calls == 4:
                signal.raise_signal(signal.SIGINT)
            return super().losses(clips)

    trainer = make_trainer(clips, tmp_path / "run", max_steps=9, step_type=Interrupting, validation=0.0)
    assert not trainer.fit()
    assert trainer.done == 5
    assert (tmp_path / "run" / "checkpoints" / "latest").read_text() == "00000005"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    continued: Trainer = make_trainer(clips, tmp_path / "run", max_steps=9, validation=0.0)
    assert continued.done == 5


def test_a_second_ctrl_c_interrupts_at_once(clips: Path, tmp_path: Path) -> None:
    class Impatient(TinyStep):
        def losses(self, clips):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            return super().losses(clips)

    with pytest.raises(KeyboardInterrupt):
        make_trainer(clips, tmp_path / "run", max_steps=9, step_type=Impatient).fit()
