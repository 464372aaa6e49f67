"""Both sides' own functions, in float32 and float64, on heads a few percent apart; and bugs planted in modern's."""

from copy import deepcopy
from functools import partial

import pytest
import torch

from fixtures.legacy_files import write_legacy_detail_data
from modern.assets import load_head
from modern.mesh import vertex_normals
from modern.renderer import Renderer
from parity.legacy_build import import_legacy
from parity.truth.assemble import allowed_between_truths
from parity.truth.double import doubling, upcast
from parity.truth.errors import distance
from parity.truth.inputs import jittered
from parity.truth.schema import Word
from parity.worker import HEAD
from tests.parity.truth.toy import measured


@pytest.fixture(scope="module")
def head():
    return load_head(HEAD)


def vertices(head, index):
    generator = torch.Generator().manual_seed(index)
    return {"vertices": jittered(head.v_template, generator)[None]}


def legacy(head, x):
    return import_legacy("utils.util").vertex_normals(x["vertices"], head.faces[None])


def modern(head, x):
    return vertex_normals(x["vertices"], head.faces)


def in_bfloat16(head, x):
    """Positions kept in bfloat16 on the way."""
    return vertex_normals(x["vertices"].bfloat16().to(x["vertices"].dtype), head.faces)


def without_the_last_face(head, x):
    return vertex_normals(x["vertices"], head.faces[:-1])


def run(monkeypatch, head, side32, side64, inputs=20):
    sides32 = {"legacy": partial(legacy, head), "modern": partial(side32, head)}
    sides64 = {"legacy": partial(legacy, head), "modern": partial(side64, head)}
    return measured(monkeypatch, sides32, sides64, partial(vertices, head), inputs=inputs)


def test_both_normals_are_the_same_error_from_one_truth(monkeypatch, head):
    (row,) = run(monkeypatch, head, modern, modern, inputs=3)
    assert (row.word, row.ratio) == (Word.SAME_ERROR, 1.0)
    assert 1e-8 < row.legacy[0] < 1e-4
    assert row.truths <= row.allowed
    assert "not all float64" not in row.reason


def test_lost_digits_in_modern_are_farther(monkeypatch, head):
    (row,) = run(monkeypatch, head, in_bfloat16, modern)
    assert (row.word, row.ratio > 100) == (Word.FARTHER, True)


def test_a_face_left_out_is_another_formula(monkeypatch, head):
    (row,) = run(monkeypatch, head, without_the_last_face, without_the_last_face, inputs=2)
    assert (row.word, row.fails) == (Word.OTHER_FORMULA, True)


@pytest.fixture
def legacy_renderer(head, tmp_path):
    """Legacy's renderer built in float64 from the files that it reads."""
    write_legacy_detail_data(head, {"ACG": {}, "E_flame": {}}, tmp_path)
    module = import_legacy("utils.renderer3")
    with doubling():
        module.set_rasterizer("pytorch3d")
        return module.SRenderY(
            224, str(tmp_path / "head_template.obj"), flame_mask_path=str(tmp_path / "FLAME_masks.pkl")
        )


def test_both_renderers_have_the_same_texture_coordinates_in_float64(head, legacy_renderer):
    """Legacy parses text, modern reads float32 arrays: what float32 keeps is the input, the rest is computed."""
    wide = deepcopy(head)
    upcast([wide])
    with doubling():
        ours = Renderer(wide, 224).corner_uv1_F33
    assert ours.dtype == legacy_renderer.face_uvcoords.dtype == torch.float64
    assert torch.equal(ours[..., :2], legacy_renderer.face_uvcoords[0][..., :2])


def test_coordinates_computed_in_float32_would_be_another_formula(head, legacy_renderer):
    """Negative control: the constants of a renderer built in float32 and only then made float64."""
    rounded = Renderer(head, 224).corner_uv1_F33[..., :2]
    truth = {"uv": legacy_renderer.face_uvcoords[0][..., :2]}
    assert distance(truth, {"uv": rounded}, ["uv"]) > allowed_between_truths([0.0], [0.0])
