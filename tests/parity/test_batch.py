import dataclasses

import numpy as np
import pytest
import torch

from fixtures import clip
from parity.batch import Batch, BatchError, load_batch

REAL = "d0aa86ea1e56e4e3ba9d6a09ff602c53c3203644c254244ac4d7180cc412c9ad"
SEEDED = "4084ecdb22a7d07c4e08076c545fd692f4b71a3a9fd0e0ad9de8689037566842"


@pytest.fixture(scope="module")
def batch() -> Batch:
    return load_batch("seeded")


@pytest.fixture
def folder(tmp_path):
    clip.write_clip_folder(tmp_path / "clip")
    return tmp_path / "clip"


def damaged(batch: Batch, field: str, value: float, where=(0, 0, 0)) -> Batch:
    tensor = getattr(batch, field).clone()
    tensor[where] = value
    return dataclasses.replace(batch, **{field: tensor})


@pytest.mark.parametrize(("spec", "digest"), [("seeded", SEEDED), ("carphone_0040", REAL)])
def test_bundled_batches_are_pinned(spec, digest):
    loaded = load_batch(spec)
    assert (loaded.name, loaded.digest) == (spec, digest)
    assert set(loaded.mask.unique().tolist()) == {0.0, 1.0, 2.0}


def test_another_prefix_is_another_batch(batch):
    other = load_batch("seeded:other")
    assert other.name == "seeded:other"
    assert other.digest != batch.digest


def test_the_clip_loads_like_any_folder(folder):
    loaded = load_batch(str(folder))
    assert loaded.name == "clip"
    assert loaded.digest == REAL


def test_dense_landmarks_are_picked_from_all_points():
    from fixtures.head.landmark_targets import LANDMARK_INDICES

    wanted = clip.read_numbers()["kpts_dense"][:, list(LANDMARK_INDICES)]
    np.testing.assert_array_equal(load_batch("carphone_0040").landmark_dense.numpy(), wanted)


def test_fresh_copies_share_nothing(batch):
    before, copy = batch.digest, batch.fresh()
    for tensor in copy.tensors.values():
        tensor.zero_()
    assert batch.digest == before
    assert copy.digest != before


def test_digest_sees_a_single_bit(batch):
    value = float(np.nextafter(np.float32(batch.image[0, 0, 0, 0]), np.float32(1)))
    assert damaged(batch, "image", value, (0, 0, 0, 0)).digest != batch.digest


def test_legacy_form_has_a_leading_axis(batch):
    legacy = batch.as_legacy()
    assert {key: tuple(value.shape) for key, value in legacy.items() if isinstance(value, torch.Tensor)} == {
        "image_224": (1, 3, 3, 224, 224),
        "landmark": (1, 3, 68, 3),
        "landmark_dense": (1, 3, 105, 3),
        "mask": (1, 3, 3, 224, 224),
    }
    assert legacy["imagesName"] == [["seeded_0000"], ["seeded_0001"], ["seeded_0002"]]


@pytest.mark.parametrize("field", ["image", "landmark", "landmark_dense", "mask"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_values_are_refused(batch, field, value):
    with pytest.raises(BatchError, match=f"seeded: {field} holds 1 non-finite"):
        damaged(batch, field, value, (0,) * getattr(batch, field).ndim)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("image", 255.0, r"image spans .*\.\.255, allowed 0\.\.1"),
        ("landmark", 112.0, "landmark x, y spans"),
        ("landmark_dense", -3.0, "landmark_dense x, y spans"),
        ("mask", 4.0, "other than 0, 1, 2"),
    ],
)
def test_values_out_of_range_are_refused(batch, field, value, message):
    with pytest.raises(BatchError, match=message):
        damaged(batch, field, value, (0,) * getattr(batch, field).ndim)


def test_a_confidence_above_one_is_refused(batch):
    with pytest.raises(BatchError, match="landmark confidence"):
        damaged(batch, "landmark", 2.0, (0, 0, 2))


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("image", lambda t: t[..., :223]),
        ("image", lambda t: t.double()),
        ("landmark", lambda t: t[:, :67]),
        ("mask", lambda t: t[:, :1]),
    ],
    ids=["narrow image", "double image", "too few landmarks", "mask of one channel"],
)
def test_wrong_sizes_and_types_are_refused(batch, field, change):
    with pytest.raises(BatchError, match=f"{field} is .* expected"):
        dataclasses.replace(batch, **{field: change(getattr(batch, field))})


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(BatchError, match=r"no batch 'nothing'.*carphone_0040, seeded"):
        load_batch("nothing")


@pytest.mark.parametrize(("kind", "name"), [("kpts", "0001.npy"), ("kpts_dense", "0000.npy"), ("masks", "0002.npy")])
def test_a_missing_file_is_named(folder, kind, name):
    (folder / kind / name).unlink()
    with pytest.raises(BatchError, match=f"{kind}/{name}"):
        load_batch(str(folder))


def test_nan_in_a_landmark_file_is_named(folder):
    path = folder / "kpts" / "0001.npy"
    points = np.load(path)
    points[3] = np.nan
    np.save(path, points)
    with pytest.raises(BatchError, match=r"kpts/0001\.npy"):
        load_batch(str(folder))


def test_an_oblong_image_is_named(folder):
    from PIL import Image

    Image.new("RGB", (224, 200)).save(folder / "images" / "0001.png")
    with pytest.raises(BatchError, match=r"images/0001\.png"):
        load_batch(str(folder))
