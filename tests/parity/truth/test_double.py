"""Code that says float32 everywhere, run in float64; and faces whose coordinates are found in float64."""

import io
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
from pytorch3d.structures import Meshes
from torch import nn

from parity.recorded_raster import recorded_barycentric
from parity.truth.double import Narrow, doubling, upcast
from parity.truth.raster import barycentric, float64_raster

SIZE = 24


class Stubborn(nn.Module):
    """Asks for float32 in every way that the audited code does."""

    def __init__(self):
        super().__init__()
        self.dtype = torch.float32
        self.linear = nn.Linear(7, 5)
        self.plain = torch.rand(5)
        self.listed = [torch.rand(5)]
        self.register_buffer("constants", torch.tensor(np.sqrt(np.arange(1.0, 6.0))).float())

    def forward(self, x):
        zeros = torch.zeros(5, dtype=self.dtype)
        eye = torch.from_numpy(np.eye(5, dtype=np.float32)) @ torch.ones(5)
        mask = (x[:, :5] > 0.5).float()
        return self.linear(x) * self.constants + zeros + self.plain * mask + self.listed[0] * eye


def by_hand(model, x):
    weight, bias = model.linear.weight.detach().numpy(), model.linear.bias.detach().numpy()
    constants = np.sqrt(np.arange(1.0, 6.0))
    mask = (x[:, :5] > 0.5).numpy()
    return (x.numpy() @ weight.T + bias) * constants + model.plain.numpy() * mask + model.listed[0].numpy()


@pytest.fixture
def _seeded():
    """The relative bound is near float64's own: chance must not pick a sum that cancels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.mark.usefixtures("_seeded")
def test_stubborn_code_runs_in_float64():
    x = torch.rand(3, 7).double()
    with doubling():
        model = Stubborn()
        upcast([model])
        with Narrow() as narrow:
            found = model(x).detach()
    assert found.dtype == torch.float64
    assert not narrow.found
    np.testing.assert_allclose(found.numpy(), by_hand(model, x), rtol=1e-14)


def test_float32_that_slips_through_is_named():
    forgotten = torch.rand(3)  # held by a closure, where nothing finds it
    with doubling(), Narrow() as narrow:
        (forgotten * 2) + torch.rand(3)
    assert narrow.found == {"mul"}


def test_nothing_stays_changed_afterwards():
    before = torch.from_numpy, torch.FloatTensor, torch._utils._rebuild_tensor
    with doubling():
        assert torch.zeros(1).dtype == torch.float64
    assert torch.zeros(1).float().dtype == torch.float32
    assert torch.get_default_dtype() == torch.float32
    assert before == (torch.from_numpy, torch.FloatTensor, torch._utils._rebuild_tensor)


def test_unpickled_numbers_keep_their_values():
    """Read as float64, the bytes of float32 numbers are other numbers; no error is raised."""
    tensor, file = torch.rand(6), io.BytesIO()
    torch.save({"a": tensor}, file)
    file.seek(0)
    with doubling():
        loaded = torch.load(file)["a"]
        unpickled = pickle.loads(pickle.dumps(tensor))
    assert torch.equal(loaded, tensor)
    assert torch.equal(unpickled, tensor)


def test_upcast_keeps_values_and_what_is_to_be_left():
    kept, model = {"weights": torch.rand(3)}, Stubborn()
    before = model.plain.clone()
    upcast([model, kept], leave=kept)
    assert kept["weights"].dtype == torch.float32
    assert model.plain.dtype == model.linear.weight.dtype == model.listed[0].dtype == torch.float64
    assert torch.equal(model.plain, before.double())


def mesh(seed, faces=12):
    """Corners [F,3,3] in front of the viewer, and the raster of pytorch3d."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(faces, 3, 3, generator=generator) * 2 - 1
    corners[..., 2] += 10
    return corners


def rasterised(corners):
    meshes = Meshes(verts=corners.reshape(1, -1, 3), faces=torch.arange(3 * len(corners)).reshape(1, -1, 3))
    found = rasterize_meshes(meshes, SIZE, blur_radius=0.0, faces_per_pixel=1, perspective_correct=False)
    return found[0][..., 0], found[2][..., 0, :]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_coordinates_are_pytorch3ds_and_give_the_pixel_centre_back(seed):
    corners = mesh(seed)
    ids, theirs = rasterised(corners)
    ours = barycentric(corners.double(), ids)
    hit = ids >= 0
    assert torch.equal(ours[~hit], -torch.ones_like(ours[~hit]))
    at_pixel = corners.double()[ids.clamp(min=0)]
    area = (at_pixel[..., 1, :2] - at_pixel[..., 0, :2], at_pixel[..., 2, :2] - at_pixel[..., 0, :2])
    large = hit & ((area[0][..., 0] * area[1][..., 1] - area[0][..., 1] * area[1][..., 0]).abs() > 1e-2)
    torch.testing.assert_close(ours[large], theirs.double()[large], rtol=0, atol=2e-4)
    places = 1 - (2 * torch.arange(SIZE).double() + 1) / SIZE
    centres = torch.stack([places[None].expand(SIZE, -1), places[:, None].expand(-1, SIZE)], dim=-1)[None]
    back = (ours[..., None] * at_pixel[..., :2]).sum(dim=-2)
    torch.testing.assert_close(back[large], centres[large], rtol=0, atol=5e-6)


def test_the_gradient_is_pytorch3ds():
    corners, weights = mesh(3), torch.rand(1, SIZE, SIZE, 3)
    ids, values = rasterised(corners)
    theirs, ours = corners.clone().requires_grad_(), corners.double().requires_grad_()
    (recorded_barycentric(theirs, ids, values) * weights).sum().backward()
    (barycentric(ours, ids) * weights * (ids >= 0)[..., None]).sum().backward()
    error = (theirs.grad - ours.grad).norm() / ours.grad.norm()
    assert error < 1e-4


def test_pytorch3d_gives_float64_coordinates_of_its_own_and_of_given_faces():
    corners = mesh(5)
    ids, _ = rasterised(corners)
    with doubling():
        own_ids, own = rasterised(corners.double())
    assert own.dtype == torch.float64
    assert torch.equal(own_ids, ids)
    given_ids = torch.where(ids >= 0, 0, ids)
    with doubling(given_ids):
        found_ids, found = rasterised(corners.double())
    assert torch.equal(found_ids, given_ids)
    assert torch.equal(found, barycentric(corners.double(), given_ids))


@pytest.mark.parametrize("given", [True, False])
def test_a_recorded_raster_is_an_input_or_belongs_to_the_mesh(given):
    corners = mesh(7).double()
    ids, values = rasterised(corners.float())
    with float64_raster(given=given):
        found = recorded_barycentric(corners, ids, values.double())
    assert torch.equal(found, values.double() if given else barycentric(corners, ids))
