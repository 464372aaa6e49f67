"""The identity dataset and the geometry helpers, on files and shapes made here."""

import numpy as np
import pytest
import torch
from PIL import Image

from parity.legacy_detail_build import import_legacy_detail


@pytest.fixture
def identities(tmp_path):
    """Two identities, the first with one picture, the second with two, 448 pixels wide."""
    for name, frames in (("a", 1), ("b", 2)):
        for kind in ("images", "kpts", "kpts_dense", "masks"):
            (tmp_path / "faces" / name / kind).mkdir(parents=True)
        for frame in range(frames):
            folder = tmp_path / "faces" / name
            Image.fromarray(np.full((448, 448, 3), 128, np.uint8)).save(folder / "images" / f"{frame}.png")
            np.save(folder / "kpts" / f"{frame}.npy", np.full((68, 3), 300.0))
            np.save(folder / "kpts_dense" / f"{frame}.npy", np.zeros((478, 3)))
            label = np.zeros((448, 448), np.int64)
            label[100:301, 100:301], label[:50], label[400:] = 1, 10, 13
            np.save(folder / "masks" / f"{frame}.npy", label)
    np.savez(tmp_path / "mediapipe.npz", landmark_indices=np.arange(105))
    return tmp_path


def dataset(folder, monkeypatch, count):
    module = import_legacy_detail("datasets.build_datasets")
    monkeypatch.setattr(module, "glob", lambda pattern: sorted(map(str, folder_glob(folder, pattern))))
    return module.SelfDataset(K=count, image_size=224, mediapipePath=str(folder / "mediapipe.npz"))


def folder_glob(folder, pattern):
    """The roots are literal in legacy; here they point at the test's folder."""
    if pattern.endswith("masks"):
        return (folder / "faces").glob("*/masks")
    return folder.__class__(pattern).parent.glob("*.npy")


def test_an_item_is_k_pictures_of_one_identity(identities, monkeypatch):
    item = dataset(identities, monkeypatch, 2)[1]
    assert {name: tuple(value.shape) for name, value in item.items() if torch.is_tensor(value)} == {
        "image_224": (2, 3, 224, 224),
        "landmark": (2, 68, 3),
        "landmark_dense": (2, 105, 3),
        "mask": (2, 224, 224),
    }
    assert bool((item["landmark"] == 300).all()), "landmarks do not follow the picture's new size"
    mask = item["mask"][0]
    assert mask[0, 0] == mask[223, 0] == 0
    assert mask[100, 100] == 1
    assert bool(((mask > 0) & (mask < 1)).any()), "edges are soft after resizing"


def test_a_short_folder_is_passed_over(identities, monkeypatch):
    assert all("/b/" in name for name in dataset(identities, monkeypatch, 2)[0]["imagesName"])


def test_folders_that_are_all_too_short_never_end(identities, monkeypatch):
    with pytest.raises(RecursionError):
        dataset(identities, monkeypatch, 3)[0]


def test_an_empty_mask_file_gives_three_channels(identities, monkeypatch):
    assert dataset(identities, monkeypatch, 1).load_mask(str(identities / "none.npy"), 5, 7).shape == (5, 7, 3)


def test_erosion_counts_outside_as_unset_and_any_value_as_set():
    util = import_legacy_detail("utils.util")
    mask = torch.full((1, 1, 9, 9), 0.1)
    eroded = util.binary_erosion(mask)
    assert eroded.sum() == 25
    assert bool((eroded[0, 0, 2:7, 2:7] == 1).all())


def test_texel_mesh_has_the_recorded_faces():
    faces = import_legacy_detail("utils.util").generate_triangles(256, 256)
    assert faces.shape == (122_990, 3)
    corner = 5 * 256 + 2
    assert faces[:2].tolist() == [[corner, corner + 256, corner + 1], [corner + 1, corner + 256, corner + 257]]


def test_spherical_harmonics_use_the_usual_constants(trainer):
    factors = trainer.deca.render.constant_factor
    expected = [0.28209481] + [1.02332675] * 3 + [0.85808551] * 3 + [0.42904276, 0.24770796]
    assert torch.allclose(factors, torch.tensor(expected), atol=1e-7)
