"""Laws of what happens in texture space."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
from pytorch3d.structures import Meshes
from scipy.ndimage import binary_erosion

from fixtures import seeded
from modern.detail.displacement import detail_normals, grid_faces
from modern.detail.geometry import HeadGeometry, UvMap
from modern.detail.visibility import face_patch, observe
from modern.losses.deca import eroded
from modern.mesh import vertex_normals
from modern.renderer import Harmonics, sh_shading
from modern.rotation import axis_angle_to_matrix
from tests.modern.conftest import some_codes

SMALL = 24


@given(st.integers(0, 2**32 - 1), st.floats(0.5, 1.0))
@settings(max_examples=30, deadline=None)
def test_erosion_is_scipys(seed, share):
    drawn = torch.rand(2, 1, 17, 23, generator=torch.Generator().manual_seed(seed))
    image = torch.where(drawn < share, drawn + 0.01, 0.0)
    for picture, found in zip(image[:, 0], eroded(image)[:, 0], strict=True):
        expected = binary_erosion(picture.numpy(), structure=torch.ones(5, 5).numpy())
        assert torch.equal(found.bool(), torch.from_numpy(expected))


def test_grid_has_two_triangles_per_cell_and_a_margin():
    faces = grid_faces(256)
    assert faces.shape == (122_990, 3)
    assert faces[0].tolist() == [5 * 256 + 2, 6 * 256 + 2, 5 * 256 + 3]
    assert faces[1].tolist() == [5 * 256 + 3, 6 * 256 + 2, 6 * 256 + 3]
    assert faces[-1].tolist() == [249 * 256 + 253, 250 * 256 + 252, 250 * 256 + 253]


def sheet(name="sheet"):
    axis = torch.linspace(-1, 1, SMALL)
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    vertices = torch.stack([u, -v, 0.3 * u * v])[None] + seeded.uniform(name, (1, 3, SMALL, SMALL), -0.01, 0.01)
    flat = vertices.permute(0, 2, 3, 1).reshape(1, -1, 3)
    normals = vertex_normals(flat, grid_faces(SMALL)).view(1, SMALL, SMALL, 3).permute(0, 3, 1, 2)
    return vertices, normals


def displaced_normals(uv_z, vertices, normals, mask):
    fixed = seeded.uniform("fixed", (SMALL, SMALL), -0.01, 0.01)
    return detail_normals(uv_z, vertices, normals, mask_11SS=mask, fixed_SS=fixed, faces_F3=grid_faces(SMALL))


@given(st.tuples(*[st.floats(-3, 3)] * 3))
@settings(max_examples=15, deadline=None)
def test_displaced_normals_turn_with_the_mesh(axis_angle):
    (vertices, normals), mask = sheet(), torch.full((1, 1, SMALL, SMALL), 0.7)
    uv_z = seeded.uniform("z", (1, 1, SMALL, SMALL), -0.05, 0.05)
    turn = axis_angle_to_matrix(torch.tensor([axis_angle]))[0]

    def turned(maps):
        return torch.einsum("ij,bjhw->bihw", turn, maps)

    expected = turned(displaced_normals(uv_z, vertices, normals, mask))
    assert torch.allclose(displaced_normals(uv_z, turned(vertices), turned(normals), mask), expected, atol=1e-4)


def test_outside_the_mask_the_smooth_normals_stay():
    (vertices, normals), mask = sheet(), torch.zeros(1, 1, SMALL, SMALL)
    uv_z = seeded.uniform("z", (1, 1, SMALL, SMALL)).requires_grad_()
    found = displaced_normals(uv_z, vertices, normals, mask)
    assert torch.equal(found, normals)
    found.sum().backward()
    assert not uv_z.grad.any()


def test_without_displacement_a_plane_keeps_its_normal_but_at_the_margin():
    axis = torch.linspace(-1, 1, SMALL)
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    plane = torch.stack([u, -v, torch.zeros_like(u)])[None]
    up = torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1).expand(1, 3, SMALL, SMALL)
    zero, one = torch.zeros(1, 1, SMALL, SMALL), torch.ones(1, 1, SMALL, SMALL)
    found = detail_normals(
        zero, plane, up, mask_11SS=one, fixed_SS=torch.zeros(SMALL, SMALL), faces_F3=grid_faces(SMALL)
    )
    inner = found[..., 5 : SMALL - 5, 2 : SMALL - 2]
    assert torch.allclose(inner, up[..., 5 : SMALL - 5, 2 : SMALL - 2])
    assert not found[..., :5, :].any()
    assert not found[..., :2].any()


def test_uv_map_shows_what_pytorch3d_shows(head):
    size, values = 32, seeded.uniform("values", (2, len(head.v_template), 3), -1, 1)
    uv = torch.cat([head.uvcoords * 2 - 1, torch.ones(len(head.uvcoords), 1)], dim=1) * torch.tensor([-1.0, 1, 1])
    meshes = Meshes(verts=uv[None].expand(2, -1, -1), faces=head.uvfaces[None].expand(2, -1, -1))
    ids, _, barycentric, _ = rasterize_meshes(
        meshes, image_size=size, blur_radius=0.0, faces_per_pixel=1, perspective_correct=False
    )
    corners = values[:, head.faces].flatten(0, 1)[ids[..., 0].clamp(min=0)]
    expected = (barycentric[..., 0, :, None] * corners).sum(dim=-2) * (ids >= 0)
    assert (ids >= 0).any()
    assert (ids < 0).any()
    assert torch.allclose(UvMap(head, size)(values), expected.permute(0, 3, 1, 2), atol=1e-6)


def test_harmonics_of_deca_are_orthogonal_up_to_their_factors():
    generator = torch.Generator().manual_seed(0)
    normals = torch.nn.functional.normalize(torch.randn(1, 3, 200, 200, generator=generator), dim=1)
    values = [
        sh_shading(normals, torch.eye(9)[k].view(1, 9, 1).expand(1, 9, 3), Harmonics.DECA)[0, 0] for k in range(9)
    ]
    gram = torch.stack(values).flatten(1) @ torch.stack(values).flatten(1).T / values[0].numel()
    off_diagonal = gram - gram.diag().diag()
    assert off_diagonal.abs().max() < 0.02 * gram.diag().max()
    assert gram[0, 0] == pytest.approx(1 / (4 * torch.pi), rel=1e-3)


def test_a_texel_is_seen_where_face_mask_and_direction_agree():
    axis = (2 * torch.arange(16) + 1 - 16) / 16
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    projected = torch.stack([u, v, torch.full_like(u, 10)])[None]
    normals = torch.where(u < 0, -0.06, -0.04).expand(1, 3, -1, -1)
    image, mask = seeded.uniform("picture", (1, 3, 16, 16)), torch.zeros(1, 16, 16)
    mask[:, :8] = 1
    seen = observe(image, mask, projected, normals, torch.full((1, 1, 16, 16), 0.5))
    assert torch.allclose(seen.texture_B3SS, image, atol=1e-5)
    expected = torch.zeros(16, 16)
    expected[:8, :8] = 0.5
    assert torch.allclose(seen.visible_B1SS[0, 0], expected, atol=1e-5)
    assert seen.unseen_B1SS.sum() == 256 - 4 * 4


def test_patch_is_the_face():
    maps = torch.zeros(1, 1, 256, 256)
    maps[..., 50:206, 50:206] = 1
    assert torch.equal(face_patch(maps), torch.ones(1, 1, 256, 256))


@pytest.mark.slow
def test_head_in_texture_space_is_the_head(head):
    geometry, codes = HeadGeometry(head, 64), some_codes(2)
    surface = geometry(codes)
    inside = geometry.uv_map.face_ids_1SS[0] >= 0
    low, high = surface.head.mesh.vertices_BV3.amin(1), surface.head.mesh.vertices_BV3.amax(1)
    texels = surface.uv_vertices_B3SS[:, :, inside]
    assert (texels >= low[..., None] - 1e-6).all()
    assert (texels <= high[..., None] + 1e-6).all()
    assert not surface.uv_vertices_B3SS[:, :, ~inside].any()
    one = geometry(some_codes(2))
    assert torch.equal(one.grid_BHW2, surface.grid_BHW2)
