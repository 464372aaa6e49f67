"""The cheap rasteriser of many steps: fewer pixels, the same faces, gradients that add up."""

import pytest
import torch
from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
from pytorch3d.structures import Meshes

from parity.quick_raster import remembering, shrunk

CORNERS = torch.tensor([[-1.0, -1.0, 5.0], [1.0, -1.0, 5.0], [0.0, 1.0, 5.0]])
SETTINGS = {"blur_radius": 0.0, "faces_per_pixel": 1, "perspective_correct": False}


def mesh(corners):
    return Meshes(verts=corners[None], faces=torch.tensor([[[0, 1, 2]]]))


@pytest.mark.parametrize("size", [32, [32, 32], (32, 32)])
def test_each_pixel_stands_for_a_square(size):
    small = rasterize_meshes(mesh(CORNERS), image_size=8, **SETTINGS)
    large = shrunk(rasterize_meshes, 8)(mesh(CORNERS), image_size=size, **SETTINGS)
    for few, many in zip(small, large, strict=True):
        assert many.shape[1:3] == (32, 32)
        assert all(torch.equal(many[:, row::4, column::4], few) for row in range(4) for column in range(4))
    assert 0 < int((large[0] >= 0).sum()) < 32 * 32


def test_the_gradient_is_that_of_the_small_picture_times_the_pixels_of_a_square():
    def gradient(rasterize, size):
        corners = CORNERS.clone().requires_grad_()
        barycentric = rasterize(mesh(corners), image_size=size, **SETTINGS)[2]
        (barycentric * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
        return corners.grad

    expected = 16 * gradient(rasterize_meshes, 8)
    assert expected.any()
    assert torch.allclose(gradient(shrunk(rasterize_meshes, 8), 32), expected)


@pytest.mark.parametrize("size", [30, [32, 16]])
def test_a_picture_that_does_not_divide_is_refused(size):
    with pytest.raises(ValueError, match="raster 8"):
        shrunk(rasterize_meshes, 8)(mesh(CORNERS), image_size=size, **SETTINGS)


def test_equal_meshes_are_searched_once_and_hands_out_copies():
    calls = []

    def counted(meshes, **settings):
        calls.append(settings)
        return rasterize_meshes(meshes, **settings)

    quick = remembering(counted)
    first = quick(mesh(CORNERS), image_size=8, **SETTINGS)
    first[1].zero_()
    again = quick(mesh(CORNERS.clone()), image_size=8, **SETTINGS)
    assert len(calls) == 1
    assert again[1].any()
    quick(mesh(CORNERS + 0.01), image_size=8, **SETTINGS)
    quick(mesh(CORNERS), image_size=4, **SETTINGS)
    quick(mesh(CORNERS.clone().requires_grad_()), image_size=8, **SETTINGS)
    assert len(calls) == 4
