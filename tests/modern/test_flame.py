"""FLAME, camera, texture, normals."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modern.camera import project
from modern.flame import Flame, Mesh, contour_row
from modern.mesh import vertex_normals
from modern.rotation import axis_angle_to_matrix
from modern.texture import FlameTexture


@pytest.fixture(scope="module")
def flame(head):
    return Flame(head)


def zeros(batch=1):
    return torch.zeros(batch, 100), torch.zeros(batch, 50), torch.zeros(batch, 6)


def test_zero_code_is_the_template(flame, head):
    mesh = flame(*zeros())
    torch.testing.assert_close(mesh.vertices_BV3[0], head.v_template, atol=1e-6, rtol=0)
    corners = head.v_template[head.faces[head.mp_lmk_face_idx]]
    expected = (corners * head.mp_lmk_b_coords[..., None]).sum(1)
    torch.testing.assert_close(mesh.landmarks_dense[0], expected, atol=1e-6, rtol=0)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.floats(-0.5, 0.5, width=32), min_size=3, max_size=3))
def test_root_rotation_is_rigid(flame, root):
    shape, exp, pose = zeros()
    pose[0, :3] = torch.tensor(root)
    still, turned = flame(shape, exp, torch.zeros(1, 6)).vertices_BV3, flame(shape, exp, pose).vertices_BV3
    between = torch.randperm(still.shape[1])
    lengths = [(vertices - vertices[:, between]).norm(dim=2) for vertices in (still, turned)]
    torch.testing.assert_close(*lengths, atol=1e-5, rtol=1e-4)


def test_heads_of_a_batch_are_independent(flame):
    shape, exp, pose = torch.randn(3, 100), torch.randn(3, 50), 0.2 * torch.randn(3, 6)
    together = flame(shape, exp, pose)
    for index in range(3):
        one = flame(*(code[index : index + 1] for code in (shape, exp, pose)))
        torch.testing.assert_close(one.landmarks2d[0], together.landmarks2d[index], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("degrees", "row"), [(0, 0), (10, 10), (39, 39), (60, 39), (-1, 40), (-39, 78), (-60, 78)])
def test_contour_row_follows_the_yaw(degrees, row):
    root = axis_angle_to_matrix(torch.tensor([[0.0, math.radians(degrees), 0.0]]))
    assert contour_row(root).item() == row


def test_projection_flips_y_and_z_and_scales_after_shifting():
    points = torch.tensor([[[1.0, 2.0, 3.0]]])
    mesh = Mesh(vertices_BV3=points, landmarks2d=points, landmarks3d_B683=points, landmarks_dense=points)
    projected = project(mesh, torch.tensor([[2.0, 0.5, 0.25]]))
    assert projected.vertices_BV3.tolist() == [[[3.0, -4.5, -6.0]]]
    assert projected.landmarks2d.tolist() == [[[3.0, -4.5]]]


def test_texture_is_rgb_of_even_texels(head):
    texture = FlameTexture(head)
    expected = (head.tex_mean_bgr[::2, ::2].flip(2) / 255).permute(2, 0, 1)
    assert torch.equal(texture(torch.zeros(1, 50))[0], expected)
    code = torch.randn(2, 50)
    linear = (texture(code) + texture(-code)) / 2
    torch.testing.assert_close(linear, expected.expand(2, -1, -1, -1), atol=1e-5, rtol=1e-5)


def test_normals_have_unit_length_and_follow_the_winding():
    flat = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]]])
    faces = torch.tensor([[0, 1, 2], [1, 3, 2]])
    assert torch.equal(vertex_normals(flat, faces), torch.tensor([0.0, 0, 1]).expand(1, 4, 3))
    assert torch.equal(vertex_normals(flat, faces.flip(1)), torch.tensor([0.0, 0, -1]).expand(1, 4, 3))
    assert vertex_normals(flat * 1e-6, faces).norm(dim=2).max() < 1e-3  # tiny faces give short normals
