import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from modern.assets import HeadAssets, head_from_arrays, load_head

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
COMPACT = FIXTURES / "assets" / "head.npz"
WITHOUT_BASIS = FIXTURES / "conformance" / "coarse" / "assets_coarse.npz"


@pytest.fixture(scope="module")
def head() -> HeadAssets:
    return load_head(COMPACT)


def changed(head: HeadAssets, **fields) -> dict:
    return {field.name: getattr(head, field.name) for field in dataclasses.fields(head)} | fields


def test_a_compact_file_without_basis_needs_one():
    with pytest.raises(ValueError, match=r"assets_coarse\.npz holds no texture basis"):
        load_head(WITHOUT_BASIS)


def test_texture_cells_repeat_sixteenfold():
    low = torch.arange(32 * 32 * 3 * 50.0).reshape(32, 32, 3, 50)
    basis = load_head(WITHOUT_BASIS, low).tex_dir_bgr
    assert torch.equal(basis[::16, ::16], low)
    assert torch.equal(basis[15, 31], low[0, 1])


def test_a_given_basis_replaces_the_stored_one(head):
    assert head.tex_dir_bgr.any()
    assert not load_head(COMPACT, torch.zeros(32, 32, 3, 50)).tex_dir_bgr.any()


def test_masks_are_fractions_and_textures_bytes(head):
    for mask in (head.uv_face_eye_mask, head.uv_face_mask):
        assert (float(mask.min()), float(mask.max())) == (0, 1)
    assert head.tex_mean_bgr.max() > 128
    assert all(tensor.dtype in (torch.float32, torch.int64) for tensor in changed(head).values())


def test_a_missing_field_is_named(head):
    arrays = changed(head)
    del arrays["posedirs"]
    with pytest.raises(ValueError, match="lack posedirs"):
        head_from_arrays(arrays)


@pytest.mark.parametrize(
    ("field", "damage", "message"),
    [
        ("shapedirs", lambda t: t[..., :149], r"shapedirs: shape \(5023, 3, 149\)"),
        ("lbs_weights", lambda t: t[:-1], r"lbs_weights: shape \(5022, 5\)"),
        ("posedirs", lambda t: t.clone().index_fill_(0, torch.tensor([5]), float("nan")), "posedirs: contains NaN"),
        ("faces", lambda t: t + 1, r"faces: index outside 0\.\.5022 \(1\.\.5023\)"),
        ("mp_lmk_face_idx", lambda t: t - 9976, "mp_lmk_face_idx: index outside"),
        ("mask_face", lambda t: t + 5023, "mask_face: index outside"),
    ],
)
def test_a_damaged_field_is_named(head, field, damage, message):
    with pytest.raises(ValueError, match=message):
        head_from_arrays(changed(head, **{field: damage(getattr(head, field))}))


def test_a_folder_without_files_says_which(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"generic_model\.pkl"):
        load_head(tmp_path)


def test_a_model_without_a_key_says_which(tmp_path):
    (tmp_path / "generic_model.pkl").write_bytes(pickle.dumps({"f": np.zeros((1, 3))}))
    with pytest.raises(ValueError, match=r"generic_model\.pkl lacks v_template, shapedirs"):
        load_head(tmp_path)
