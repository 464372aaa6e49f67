from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from modern.data.frames import DataError, mask_from_labels, read_dense_landmarks, read_image, read_landmarks, read_mask

INDICES = np.arange(105) * 4


@given(st.integers(0, 255))
def test_every_label_has_its_weight(label: int) -> None:
    expected = 0 if label in (0, 10, 11, 12, 13) else 2 if label in (4, 5, 7, 8, 9) else 1
    assert mask_from_labels(np.array([[label]])).item() == expected


def test_an_image_of_the_right_size_is_its_bytes_over_255(tmp_path: Path) -> None:
    pixels = np.random.RandomState(0).randint(0, 256, (224, 224, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.dtype == np.float32
    assert np.array_equal(image, (pixels / 255.0).astype(np.float32))


def test_other_sizes_are_resized_bilinearly_and_masks_by_nearest_neighbour(tmp_path: Path) -> None:
    pixels = np.random.RandomState(0).randint(0, 256, (448, 448, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), cv2.resize(pixels / 255.0, (224, 224)).astype(np.float32))
    labels = np.zeros((448, 448), np.uint8)
    labels[224:] = 4  # the lower half, which np.resize would not even see
    np.save(tmp_path / "m.npy", labels)
    mask = read_mask(tmp_path / "m.npy")
    assert mask.shape == (224, 224)
    assert (mask[:112] == 0).all()
    assert (mask[112:] == 2).all()


def test_grey_images_become_three_channels(tmp_path: Path) -> None:
    Image.fromarray(np.full((224, 224), 51, np.uint8)).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), np.full((224, 224, 3), 0.2, np.float32))


def test_dense_landmarks_are_picked_by_index_unless_already_105(tmp_path: Path) -> None:
    points = np.random.RandomState(0).rand(478, 4).astype(np.float32)
    np.save(tmp_path / "all.npy", points)
    np.save(tmp_path / "picked.npy", points[INDICES])
    picked = read_dense_landmarks(tmp_path / "all.npy", INDICES)
    assert np.array_equal(picked, points[INDICES, :3])
    assert np.array_equal(picked, read_dense_landmarks(tmp_path / "picked.npy", INDICES))


def test_bad_images_say_which_what_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    Image.new("RGB", (224, 200)).save(tmp_path / "wide.png")
    Image.fromarray(np.random.RandomState(0).randint(0, 256, (224, 224, 3)).astype(np.uint8)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:5000])
    for name, what, remedy in (
        ("text.png", "unreadable image", "write it again"),
        ("cut.png", "unreadable image", "write it again"),
        ("wide.png", "224x200", "crop the face"),
        ("gone.png", "missing", "restore it"),
    ):
        with pytest.raises(DataError, match=what) as error:
            read_image(tmp_path / name)
        assert name in str(error.value)
        assert remedy in str(error.value)


@pytest.mark.parametrize(
    ("array", "what"),
    [
        (np.zeros((67, 3)), r"\(67, 3\), expected \(68, 3\)"),
        (np.zeros((68, 2)), r"\(68, 2\), expected \(68, 3\)"),
        (np.full((68, 3), np.nan), "68 of 68 landmarks are NaN"),
        (np.array(["a"]), "numeric"),
        (np.array([{}], dtype=object), "unreadable array"),
    ],
)
def test_bad_landmarks_are_refused(tmp_path: Path, array: np.ndarray, what: str) -> None:
    np.save(tmp_path / "p.npy", array)
    with pytest.raises(DataError, match=what) as error:
        read_landmarks(tmp_path / "p.npy")
    assert "p.npy" in str(error.value)


def test_truncated_and_missing_arrays_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", np.zeros((68, 3)))
    (tmp_path / "p.npy").write_bytes((tmp_path / "p.npy").read_bytes()[:300])
    (tmp_path / "empty.npy").write_bytes(b"")
    for name, what in (("p.npy", "unreadable"), ("empty.npy", "unreadable"), ("gone.npy", "missing")):
        with pytest.raises(DataError, match=what):
            read_landmarks(tmp_path / name)


@pytest.mark.parametrize(
    ("labels", "what"),
    [(np.zeros((224, 224, 3), np.uint8), "expected a square"), (np.full((8, 8), 300), "outside 0..255")],
)
def test_bad_label_maps_are_refused(tmp_path: Path, labels: np.ndarray, what: str) -> None:
    np.save(tmp_path / "m.npy", labels)
    with pytest.raises(DataError, match=what):
        read_mask(tmp_path / "m.npy")
