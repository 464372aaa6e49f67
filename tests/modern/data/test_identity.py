import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from modern.clip import Identity
from modern.data.clip_folder import ClipFolder
from modern.data.dataset import IdentityDataset
from modern.data.frames import DataError, read_face_mask
from modern.data.loaders import Loaders, make_identity_loaders
from modern.data.sampler import Item
from modern.data.sources import Source, Split, split_clips
from tests.modern.data.clip_files import LANDMARK_INDICES, write_clip

seeds, epochs, entries = st.integers(0, 2**40), st.integers(0, 60), st.integers(0, 10**6)


def dataset(clips: list[ClipFolder], images: int, **options) -> IdentityDataset:
    return IdentityDataset(clips, images=images, landmark_indices=LANDMARK_INDICES, **options)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    root = tmp_path_factory.mktemp("people")
    for index, frames in enumerate((3, 5, 6, 4, 7)):
        write_clip(root / f"person{index}", frames, seed=10 * index)
    return split_clips([Source(root=root)], validation_fraction=0.2, seed=0)


def loaders(split: Split, workers: int, images: int = 2, batch_size: int = 2) -> Loaders[Identity]:
    return make_identity_loaders(
        split, images=images, landmark_indices=LANDMARK_INDICES, batch_size=batch_size, workers=workers, seed=3
    )


def drawn(split: Split, workers: int, first: int, last: int) -> list[tuple[str, ...]]:
    """Names of the images of steps first..last-1, starting a new run at `first`."""
    made, found, step = loaders(split, workers), [], first
    while step < last:
        made.sampler.seek(step)
        for batch in made.train:
            found.append(tuple(name for sample in batch for name in sample.names))
            step += 1
    return found[: last - first]


def test_an_item_is_k_images_of_one_person(tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "person", frames=6)
    sample = dataset([ClipFolder.find(folder)], 4)[Item(0, 0)]
    assert sample.image_K3HW.shape == (4, 3, 224, 224)
    assert sample.mask_KHW.shape == (4, 224, 224)
    assert (sample.landmark_K683.shape, sample.landmark_dense_K1053.shape) == ((4, 68, 3), (4, 105, 3))
    assert len(set(sample.names)) == 4
    for k, name in enumerate(sample.names):
        image, stem = Path(name), Path(name).stem
        pixels = np.asarray(Image.open(image))
        assert np.array_equal(sample.image_K3HW[k].permute(1, 2, 0), (pixels / 255.0).astype(np.float32))
        labels = np.load(folder / "masks" / f"{stem}.npy")
        expected = (labels > 0) & ~np.isin(labels, (10, 11, 12, 13))
        assert np.array_equal(sample.mask_KHW[k], expected.astype(np.float32))
        assert np.array_equal(sample.landmark_K683[k], np.load(folder / "kpts" / f"{stem}.npy"))
        dense = np.load(folder / "kpts_dense" / f"{stem}.npy")[LANDMARK_INDICES]
        assert np.array_equal(sample.landmark_dense_K1053[k], dense)


@given(st.integers(0, 255))
def test_every_label_is_face_or_not(tmp_path_factory: pytest.TempPathFactory, label: int) -> None:
    path = tmp_path_factory.mktemp("mask") / "m.npy"
    np.save(path, np.full((4, 4), label, np.uint8))
    assert (read_face_mask(path, 4) == (0 if label in (0, 10, 11, 12, 13) else 1)).all()


def test_a_mask_of_another_size_gets_soft_edges(tmp_path: Path) -> None:
    labels = np.zeros((300, 300), np.uint8)
    labels[101:, 57:] = 1
    labels[200:, 200:] = 5  # an emphasised label is face like any other here
    np.save(tmp_path / "m.npy", labels)
    mask = read_face_mask(tmp_path / "m.npy")
    expected = cv2.resize((labels > 0).astype(np.float32), (224, 224), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(mask, expected)
    assert ((mask > 0) & (mask < 1)).any()
    assert mask.max() == 1


@given(seed=seeds, epoch=epochs, entry=entries, count=st.integers(1, 60), data=st.data())
def test_choices_are_different_images_and_depend_on_their_key_only(
    seed: int, epoch: int, entry: int, count: int, data: st.DataObject
) -> None:
    images = data.draw(st.integers(1, count))

    def chosen(choice: str) -> list[int]:
        made = dataset([], images, choice=choice, seed=seed)
        torch.manual_seed(torch.seed() % 2**31)  # whatever the global generator does
        return made.chosen(Item(epoch, entry), count)

    for choice in ("random", "spread"):
        assert chosen(choice) == chosen(choice)
        assert len(set(chosen(choice))) == images
        assert set(chosen(choice)) <= set(range(count))
    assert chosen("spread") == sorted(chosen("spread"))


def test_every_image_is_chosen_about_equally_often() -> None:
    made = dataset([], 2, seed=1)
    counts = Counter(
        index for epoch in range(40) for entry in range(40) for index in made.chosen(Item(epoch, entry), 5)
    )
    assert set(counts) == set(range(5))
    assert max(counts.values()) < 1.2 * min(counts.values())


def test_batches_do_not_depend_on_workers_nor_on_where_a_run_was_resumed(split: Split) -> None:
    """Every step of three epochs, from every step on, with and without loading processes."""
    expected = drawn(split, 0, 0, 6)
    assert len(set(expected)) == 6  # epochs differ in order and images
    assert all(drawn(split, 0, first, 6) == expected[first:] for first in range(6))
    assert drawn(split, 1, 0, 6) == drawn(split, 2, 0, 6) == expected
    assert drawn(split, 2, 3, 6) == expected[3:]


def test_every_identity_is_used_once_in_an_epoch(split: Split) -> None:
    made = loaders(split, 0, batch_size=1)
    people = [Path(sample.names[0]).parent for batch in made.train for sample in batch]
    assert sorted(people) == sorted(clip.images for clip in split.train)


def test_validation_sees_the_same_spread_images(split: Split) -> None:
    held_back = loaders(split, 0).validation
    assert held_back is not None
    [sample] = [sample for batch in held_back for sample in batch]
    files = split.validation[0].files
    assert sample.names == tuple(str(files[len(files) * part // 4]) for part in (1, 3))


def test_folders_with_too_few_images_are_named_before_training(split: Split) -> None:
    with pytest.raises(DataError, match=r"person\d/images: \d images, an item needs 7 and 3 more folders likewise; re"):
        loaders(split, 0, images=7)
    with pytest.raises(DataError, match=r"person0/images: 3 images, an item needs 4; .*lower data\.images"):
        loaders(split, 0, images=4)


@pytest.mark.parametrize(("kind", "remedy"), [("masks", "needs its kpts"), ("images", "0001.png|an item needs 3")])
def test_missing_files_are_named(tmp_path: Path, kind: str, remedy: str) -> None:
    folder = write_clip(tmp_path / "person", frames=3)
    next((folder / kind).glob("0001.*")).unlink()
    with pytest.raises(DataError, match=remedy):
        dataset([ClipFolder.find(folder)], 3)[Item(0, 0)]


def test_an_image_that_is_not_square_is_refused(tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "person", frames=3)
    Image.new("RGB", (224, 200)).save(folder / "images" / "0001.png")
    with pytest.raises(DataError, match=r"0001\.png: image is 224x200 pixels, expected a square; crop the face"):
        dataset([ClipFolder.find(folder)], 3)[Item(0, 0)]


def test_shapes_of_an_identity_are_checked() -> None:
    tensors = {
        "image_K3HW": torch.zeros(2, 3, 8, 8),
        "landmark_K683": torch.zeros(2, 68, 3),
        "landmark_dense_K1053": torch.zeros(2, 105, 3),
        "mask_KHW": torch.zeros(2, 8, 8),
    }
    assert Identity(**tensors, names=("a", "b")).to("cpu").names == ("a", "b")
    with pytest.raises(ValueError, match=r"identity a: mask_KHW has shape \(2, 3, 8, 8\), expected \(2, 8, 8\)"):
        Identity(**{**tensors, "mask_KHW": torch.zeros(2, 3, 8, 8)}, names=("a",))


def test_people_in_the_labs_tree_are_found_by_their_masks(tmp_path: Path) -> None:
    """<root>/person/masks/*.npy, as the original searches."""
    for index in range(3):
        write_clip(tmp_path / "K4" / f"person{index}", frames=4)
    shutil.rmtree(tmp_path / "K4" / "person2" / "masks")
    clips = Source(root=tmp_path / "K4", depth=1).clips(seed=0)
    assert [clip.images.parent.name for clip in clips] == ["person0", "person1", "person2"]
    assert dataset(clips[:2], 4)[Item(0, 1)].mask_KHW.max() == 1
