import io
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from modern.train.files import write_file, write_folder, write_text
from modern.train.logging import RunLog
from modern.train.pictures import draw_landmarks, stack, tile
from modern.train.seeding import random_states, restore_random_states, seed_everything


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")

    def fail(part: Path) -> None:
        part.write_text("half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        write_file(tmp_path / "a.txt", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_a_failed_folder_is_not_there(tmp_path: Path) -> None:
    def fail(part: Path) -> None:
        (part / "model").write_text("half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        write_folder(tmp_path / "checkpoint", fail)
    assert list(tmp_path.iterdir()) == []


def draws() -> tuple[float, ...]:
    return (random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), *torch.rand(2).tolist())


def test_seeding_and_restoring_repeat_every_generator() -> None:
    seed_everything(5)
    first = draws()
    states = random_states()  # between the two values of a Gaussian pair, which python and numpy both keep
    second = draws()
    seed_everything(5)
    assert draws() == first
    assert draws() == second
    restore_random_states(states)
    assert draws() == second
    seed_everything(6)
    assert draws() != first


def test_states_of_another_number_of_devices_are_refused() -> None:
    states = random_states()
    states["cuda"] = [*states["cuda"], states["torch"]]
    with pytest.raises(ValueError, match="resume on as many devices"):
        restore_random_states(states)


def test_logged_figures_can_be_read_back_bitwise(tmp_path: Path) -> None:
    values = torch.rand(200, generator=torch.Generator().manual_seed(0))
    log = RunLog(tmp_path, name="run", tensorboard=False, console=Console(file=io.StringIO()))
    losses = {str(index): value.item() for index, value in enumerate(values)} | {"all_loss": 1.0}
    log.losses("train", 0, "epoch 0, 1/1", losses)
    log.close()
    text = (tmp_path / "train.log").read_text().split(") ", 1)[1]
    read = [np.float32(term.split(": ")[1]) for term in text.split(", ")]
    assert np.array_equal(np.array(read[:-1]), values.numpy())


def test_the_terminal_gets_plain_text_without_a_tty(tmp_path: Path) -> None:
    out = io.StringIO()
    log = RunLog(tmp_path, name="run", tensorboard=False, console=Console(file=out))
    log.losses("train", 7, "epoch 0, 8/9", {"all_loss": 1.5})
    log.say("[bold]not markup[/bold]")
    assert out.getvalue() == "train step 7 (epoch 0, 8/9) all_loss 1.5\n[bold]not markup[/bold]\n"


def test_tiles_are_clipped_and_stacked() -> None:
    image = torch.tensor([-1.0, 0.5, 2.0])[:, None, None].repeat(1, 4, 6)
    assert tile(image)[0, 0].tolist() == [0, 127, 255]
    assert stack([tile(image), tile(image)]).shape == (8, 6, 3)


def test_landmarks_are_drawn_where_they_are() -> None:
    points = torch.tensor([[0.5, -0.5, 1.0], [30.0, 0.0, 1.0]])  # right of and above the centre; far outside
    picture = draw_landmarks(torch.zeros(3, 100, 100), points)
    rows, columns = np.nonzero(picture[..., 1])
    assert (rows.mean(), columns.mean()) == (25, 75)
