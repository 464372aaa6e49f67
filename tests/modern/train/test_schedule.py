import pytest
from hypothesis import given
from hypothesis import strategies as st

from modern.train.schedule import Schedule

counts = st.integers(1, 40)


def make(per_epoch: int, **changes: int) -> Schedule:
    intervals = {"max_epochs": 50, "max_steps": 10**18, "log_steps": 2, "vis_steps": 4, "checkpoint_steps": 3} | changes
    return Schedule(steps_per_epoch=per_epoch, **intervals)


def test_a_tiny_run_of_seven_items_writes_what_the_original_wrote() -> None:
    """Pictures 0, 4, 6 and 8, a checkpoint kept at step 6, others at 3 and 9 (coarse spec 10.13)."""
    schedule = make(7)
    assert [step for step in range(10) if schedule.draws(step)] == [0, 4, 6, 8]
    assert [step for step in range(10) if schedule.saves(step)] == [3, 6, 9]
    assert [step for step in range(14) if schedule.keeps(step)] == [6, 13]
    assert [step for step in range(6) if schedule.logs(step)] == [0, 2, 4]


@given(per_epoch=counts, epochs=counts, steps=counts, log=counts, vis=counts, save=counts)
def test_laws_of_the_schedule(per_epoch: int, epochs: int, steps: int, log: int, vis: int, save: int) -> None:
    schedule = make(per_epoch, max_epochs=epochs, max_steps=steps, log_steps=log, vis_steps=vis, checkpoint_steps=save)
    every = range(schedule.total)
    assert schedule.total <= min(epochs * per_epoch, steps)
    assert all(schedule.logs(step) for step in every if schedule.draws(step))
    assert all(schedule.saves(step) for step in every if schedule.keeps(step))
    assert sum(map(schedule.ends_epoch, every)) == schedule.total // per_epoch


def test_intervals_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"'log_steps': 0.* at least 1"):
        make(3, log_steps=0)
