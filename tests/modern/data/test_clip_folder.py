import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from modern.data.clip_folder import ClipFolder, load_clip
from modern.data.frames import DataError
from tests.modern.data.clip_files import LANDMARK_INDICES, write_clip


def load(folder: Path, start: int = 0):
    return load_clip(folder, start, landmark_indices=LANDMARK_INDICES)


def test_three_consecutive_frames_in_order_of_name(tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "clip", frames=5)
    clip = load(folder, 2)
    assert [Path(name).name for name in clip.names] == ["0002.png", "0003.png", "0004.png"]
    assert clip.image_T3HW.shape == clip.mask_T3HW.shape == (3, 3, 224, 224)
    assert clip.landmark_T683.shape == (3, 68, 3)
    assert clip.landmark_dense_T1053.shape == (3, 105, 3)
    for t, name in enumerate(("0002", "0003", "0004")):
        pixels = np.asarray(Image.open(folder / "images" / f"{name}.png"))
        assert np.array_equal(clip.image_T3HW[t].permute(1, 2, 0), (pixels / 255.0).astype(np.float32))
        dense = np.load(folder / "kpts_dense" / f"{name}.npy")[LANDMARK_INDICES]
        assert np.array_equal(clip.landmark_dense_T1053[t], dense)
        assert torch.equal(clip.mask_T3HW[t, 0], clip.mask_T3HW[t, 2])
    tensors = (clip.image_T3HW, clip.landmark_T683, clip.landmark_dense_T1053, clip.mask_T3HW)
    assert all(tensor.dtype == torch.float32 and tensor.is_contiguous() for tensor in tensors)


def test_siblings_are_found_by_path_component_not_by_letters(tmp_path: Path) -> None:
    """A plain str.replace would also change `images_of_masks`, and find nothing."""
    nested = write_clip(tmp_path / "images_of_masks" / "clip")
    tree = tmp_path / "masks" / "dataset"
    for kind in ("images", "kpts", "kpts_dense", "masks"):
        shutil.copytree(nested / kind, tree / kind / "person" / "clip")
    expected = load(nested)
    for folder in (nested / "masks", tree / "masks" / "person" / "clip", tree / "images" / "person" / "clip"):
        assert torch.equal(load(folder).image_T3HW, expected.image_T3HW)
        assert torch.equal(load(folder).mask_T3HW, expected.mask_T3HW)


def test_other_files_among_the_images_do_not_count(tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "clip", frames=3)
    (folder / "images" / "Thumbs.db").write_bytes(b"")
    assert ClipFolder.find(folder).windows == 1


def test_too_short_a_clip_is_named(tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "short", frames=2)
    with pytest.raises(DataError, match=r"short/images: 2 images, a clip needs at least 3; remove"):
        load(folder)


def test_a_window_outside_the_clip_is_refused(tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "clip", frames=4)
    for start in (-1, 2):
        with pytest.raises(DataError, match=r"choose 0\.\.1"):
            load(folder, start)


@pytest.mark.parametrize("kind", ["kpts", "kpts_dense", "masks"])
def test_a_missing_sibling_file_is_named(tmp_path: Path, kind: str) -> None:
    folder = write_clip(tmp_path / "clip", frames=3)
    (folder / kind / "0001.npy").unlink()
    with pytest.raises(DataError, match=rf"{kind}/0001.npy: file is missing"):
        load(folder)


def test_folders_that_are_no_clip_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match="neither holds images/"):
        load(tmp_path / "other")
    with pytest.raises(DataError, match="no such folder"):
        load(tmp_path / "gone")
