from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modern.clip import Clip
from modern.data.dataset import ClipDataset
from modern.data.frames import DataError
from modern.data.loaders import Loaders, make_loaders
from modern.data.sampler import EpochSampler, Item
from modern.data.sources import Source, Split, split_clips
from tests.modern.data.clip_files import LANDMARK_INDICES, write_clip

seeds, epochs = st.integers(0, 2**40), st.integers(0, 60)


@given(length=st.integers(1, 60), batch=st.integers(1, 5), seed=seeds, epoch=epochs)
def test_an_epoch_uses_every_item_once_but_for_an_incomplete_batch(
    length: int, batch: int, seed: int, epoch: int
) -> None:
    sampler = EpochSampler(max(length, batch), batch_size=batch, seed=seed)
    sampler.seek(epoch * sampler.batches_per_epoch)
    batches = list(sampler)
    items = Counter(item for each in batches for item in each)
    assert len(batches) == len(sampler) == max(length, batch) // batch
    assert all(len(each) == batch for each in batches)
    assert set(items.values()) == {1}
    assert {item.epoch for item in items} == {epoch}
    assert max(length, batch) - len(items) < batch


@given(length=st.integers(1, 40), batch=st.integers(1, 3), seed=seeds, step=st.integers(0, 200))
def test_seeking_continues_the_same_order(length: int, batch: int, seed: int, step: int) -> None:
    length = max(length, batch)

    def steps(first: int, count: int) -> list[list[Item]]:
        sampler, drawn = EpochSampler(length, batch_size=batch, seed=seed), []
        while len(drawn) < count:
            sampler.seek(first + len(drawn))
            drawn += list(sampler)
        return drawn[:count]

    assert steps(0, step + 5)[step:] == steps(step, 5)


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    def order(seed: int, epoch: int) -> tuple[int, ...]:
        sampler = EpochSampler(20, seed=seed)
        sampler.seek(20 * epoch)
        return tuple(batch[0].entry for batch in sampler)

    assert len({order(seed, epoch) for seed in range(4) for epoch in range(4)}) == 16


def test_too_few_items_for_a_batch() -> None:
    with pytest.raises(ValueError, match="2 items cannot fill one batch of 3"):
        EpochSampler(2, batch_size=3)


@given(seed=seeds, epoch=epochs, index=st.integers(0, 10**6), windows=st.integers(1, 500))
def test_windows_lie_in_the_clip_and_depend_on_their_key_only(seed: int, epoch: int, index: int, windows: int) -> None:
    def start(window: str) -> int:
        dataset = ClipDataset([], landmark_indices=LANDMARK_INDICES, window=window, seed=seed)
        torch.manual_seed(torch.seed() % 2**31)  # whatever the global generator does
        return dataset.start(Item(epoch, index), windows)

    assert 0 <= start("random") < windows
    assert start("random") == start("random")
    assert start("first") == 0
    assert start("centre") == (windows - 1) // 2


def test_every_window_is_chosen_about_equally_often() -> None:
    dataset = ClipDataset([], landmark_indices=LANDMARK_INDICES, seed=1)
    counts = Counter(dataset.start(Item(epoch, index), 5) for epoch in range(40) for index in range(50))
    assert set(counts) == set(range(5))
    assert max(counts.values()) < 1.2 * min(counts.values())


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    root = tmp_path_factory.mktemp("clips")
    for index, frames in enumerate((3, 5, 6, 4, 7)):
        write_clip(root / f"clip{index}", frames, seed=10 * index)
    return split_clips([Source(root=root)], validation_fraction=0.2, seed=0)


def loaders(split: Split, workers: int, batch_size: int = 2) -> Loaders:
    return make_loaders(split, landmark_indices=LANDMARK_INDICES, batch_size=batch_size, workers=workers, seed=3)


def two_epochs(split: Split, workers: int) -> list[tuple[Clip, ...]]:
    made = loaders(split, workers)
    batches = []
    for epoch in range(2):
        made.sampler.seek(epoch * made.sampler.batches_per_epoch)
        batches += list(made.train)
    return batches


def same(a: Clip, b: Clip) -> bool:
    return a.names == b.names and torch.equal(a.image_T3HW, b.image_T3HW) and torch.equal(a.mask_T3HW, b.mask_T3HW)


def test_batches_do_not_depend_on_the_number_of_workers(split: Split) -> None:
    expected = two_epochs(split, 0)
    assert len({clip.names for batch in expected for clip in batch}) > 4  # epochs differ in their windows
    for workers in (1, 2):
        found = two_epochs(split, workers)
        assert len(found) == len(expected) == 4
        assert all(same(a, b) for x, y in zip(found, expected, strict=True) for a, b in zip(x, y, strict=True))


def test_loading_leaves_the_global_generator_alone(split: Split) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    two_epochs(split, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_validation_sees_each_clip_once_at_its_centre(split: Split) -> None:
    held_back = loaders(split, 0).validation
    assert held_back is not None
    clips = [clip for batch in held_back for clip in batch]
    assert len(clips) == len(split.validation) == 1
    frames = split.validation[0].frames
    start = (len(frames) - 3) // 2
    assert clips[0].names == tuple(map(str, frames[start : start + 3]))
    assert loaders(Split(split.train, ()), 0).validation is None


def test_an_error_of_a_loading_process_ends_with_our_message(tmp_path: Path) -> None:
    """The command line shows this last line."""
    clip = write_clip(tmp_path / "clip", 3)
    (clip / "kpts" / "0001.npy").unlink()
    made = loaders(split_clips([Source(root=tmp_path)], 0.0, 0), workers=1, batch_size=1)
    with pytest.raises(DataError) as error:
        next(iter(made.train))
    assert (
        str(error.value)
        .strip()
        .splitlines()[-1]
        .endswith(f"{clip}/kpts/0001.npy: file is missing; every image needs its kpts, kpts_dense and masks")
    )
