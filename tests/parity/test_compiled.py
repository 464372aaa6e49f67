"""The rasteriser as one operation: the same bytes, told once, seen through by the ledger, and nothing left behind."""

from contextlib import nullcontext

import pytest
import torch
from pytorch3d import _C
from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
from pytorch3d.structures import Meshes
from torch import Tensor

from parity.compiled import told_as_one
from parity.draws import record_draws
from parity.ops import Call, listening

FACES = torch.tensor([[0, 1, 2], [2, 1, 3]])
CORNERS = torch.tensor([[-0.8, -0.8, 1.0], [0.8, -0.7, 1.5], [-0.7, 0.8, 2.0], [0.9, 0.9, 1.2]])


def drawn_mesh(corners: Tensor) -> Tensor:
    """Depths and barycentric coordinates over a small raster, as one number."""
    raster = rasterize_meshes(Meshes([corners], [FACES]), image_size=16, faces_per_pixel=1, bin_size=0)
    return (raster[1].clamp_min(0) * 0.3).sum() + raster[2].square().sum()


def run(block: object) -> tuple[Tensor, Tensor]:
    corners = CORNERS.clone().requires_grad_()
    with block:
        value = drawn_mesh(corners)
        value.backward()
    return value.detach(), corners.grad


class Ear:
    def __init__(self) -> None:
        self.ops: list[str] = []

    def before(self, call: Call, inputs: object) -> None:
        """Not needed."""

    def after(self, call: Call, inputs: object, outputs: object) -> None:
        self.ops.append(call.op)


def test_the_bytes_are_the_same() -> None:
    bare, told = run(nullcontext()), run(told_as_one())
    assert bare[1].abs().sum() > 0
    assert all(torch.equal(a, b) for a, b in zip(bare, told, strict=True))


def test_each_way_is_told_once_instead_of_a_crowd() -> None:
    ear = Ear()
    run(listening(ear, {}))
    told = [op for op in ear.ops if op.startswith("compiled.")]
    assert told == ["compiled.rasterize_meshes.default", "compiled.rasterize_meshes_backward.default"]
    assert len(ear.ops) < 200  # 256 pixels, each several operations, if it were not told as one


def test_the_ledger_follows_a_draw_through_it() -> None:
    torch.manual_seed(0)
    with record_draws() as log:
        log.reaches([drawn_mesh(CORNERS + 0.01 * torch.randn(4, 3))])
    assert [draw["use"] for draw in log.draws] == ["result"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_blocks_may_end_in_any_order_and_leave_nothing(order: tuple[int, int]) -> None:
    before = (_C.rasterize_meshes, _C.rasterize_meshes_backward)
    blocks = [told_as_one(), told_as_one()]
    for block in blocks:
        block.__enter__()
    assert _C.rasterize_meshes is not before[0]
    for place in order:
        assert _C.rasterize_meshes is not before[0]
        blocks[place].__exit__(None, None, None)
    assert (_C.rasterize_meshes, _C.rasterize_meshes_backward) == before
    assert torch.isfinite(drawn_mesh(CORNERS))
