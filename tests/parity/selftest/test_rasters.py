"""Remembered answers of the rasteriser: the same bytes, asked once; another question is never answered from memory."""

from contextlib import nullcontext
from unittest import mock

import pytest
import torch
from pytorch3d import _C
from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
from pytorch3d.structures import Meshes

from parity.compiled import told_as_one
from parity.selftest.rasters import NAMES, remembered


def rendered(shift=0.0, size=8):
    """Coordinates of two triangles' pixels, and the gradient of their sum with respect to the corners."""
    corners = torch.tensor([[-0.9, -0.9, 1.0], [0.9, -0.8, 1.5], [-0.7, 0.9, 2.0], [0.8, 0.9, 1.2]])
    corners[0, 0] += shift
    corners.requires_grad_()
    mesh = Meshes(corners[None], torch.tensor([[[0, 1, 2], [1, 3, 2]]]))
    ids, depth, barycentric, _ = rasterize_meshes(mesh, image_size=size, faces_per_pixel=1, perspective_correct=False)
    (gradient,) = torch.autograd.grad((barycentric * depth[..., None]).sum(), corners)
    return [tensor.detach().clone() for tensor in (ids, depth, barycentric, gradient)]


@pytest.fixture
def asked():
    """How often the compiled functions themselves were called."""
    calls = dict.fromkeys(NAMES, 0)

    def counting(name, original):
        def call(*arguments):
            calls[name] += 1
            return original(*arguments)

        return call

    with mock.patch.multiple(_C, **{name: counting(name, getattr(_C, name)) for name in NAMES}):
        yield calls


def test_answers_are_the_same_bytes_and_asked_for_once(tmp_path, asked):
    plain = rendered()
    for block in (nullcontext, told_as_one, nullcontext):  # later ones have only what the first left in the folder
        with remembered(tmp_path, keep=True), block():
            for _ in range(2):
                found = rendered()
                assert all(torch.equal(a, b) for a, b in zip(plain, found, strict=True))
                found[2].zero_()  # what is given belongs to the caller
    assert asked == dict.fromkeys(NAMES, 2)


@pytest.mark.parametrize("other", [{"shift": 1e-7}, {"size": 9}])
def test_another_question_is_asked_anew(tmp_path, asked, other):
    with remembered(tmp_path):
        rendered()
        found = rendered(**other)
    assert asked["rasterize_meshes"] == 2
    assert all(torch.equal(a, b) for a, b in zip(rendered(**other), found, strict=True))
    assert not list(tmp_path.iterdir())


def test_nothing_stays_patched(tmp_path):
    before = [getattr(_C, name) for name in NAMES]
    with remembered(tmp_path):
        assert [getattr(_C, name) for name in NAMES] != before
    assert [getattr(_C, name) for name in NAMES] == before
