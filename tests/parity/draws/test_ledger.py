"""Two ledgers aligned: each planted difference is found and said; equal ledgers say nothing but that."""

import ast

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torchvision import transforms

from parity.discrepancies import REGISTRY
from parity.draws import record_draws
from parity.files import ROOT
from parity.ledger import align, sentences
from parity.structure import _of_a_step


def ledger(code):
    torch.manual_seed(0)
    with record_draws() as log:
        log.reaches(code())
    return [{"step": 0, **draw} for draw in log.draws]


def usual():
    return F.dropout(torch.ones(4), 0.1) + torch.rand(4) + F.dropout(torch.ones(4, 2), 0.1).sum()


def said(first, second):
    return sentences(align(ledger(first), ledger(second)))


def kinds(first, second):
    return [line.kind for line in align(ledger(first), ledger(second))]


def test_equal_ledgers():
    assert said(usual, usual) == ["both draw the same 3 times, in the same order, from the same states"]
    assert said(lambda: torch.ones(1), lambda: torch.ones(1)) == ["neither side draws a random number"]


def test_an_extra_permutation():
    def extra():
        order = torch.randperm(5)
        return usual() + order.sum()

    found = said(usual, extra)
    place = "as its draw 1 at tests/parity/draws/test_ledger.py:"
    assert found[0].startswith(f"modern draws one more randperm of 5 values (cpu) at step 0, {place}")
    assert found[1].startswith("3 calls of both sides get other numbers")
    assert kinds(usual, extra) == ["only second", "other state", "other state", "other state"]
    assert said(extra, usual)[0].startswith("legacy draws one more randperm")


def test_another_order():
    def swapped():
        return torch.rand(4) + F.dropout(torch.ones(4), 0.1) + F.dropout(torch.ones(4, 2), 0.1).sum()

    found = said(usual, swapped)
    assert found[0].startswith("same draws, other order: ")
    assert "is draw 1 of legacy and 2 of modern" in found[0] or "is draw 2 of legacy and 1 of modern" in found[0]


def test_an_unused_draw():
    def wasteful():
        torch.randn(7)
        return usual()

    found = said(usual, wasteful)
    assert found[-1].startswith(
        "modern: 1 draw never used: randn of 7 values (cpu) at tests/parity/draws/test_ledger.py:"
    )


def test_a_draw_without_effect():
    def ineffective():
        result = usual()
        torch.randn(7).exp()
        return result

    assert "modern: 1 draw used, but nothing of it reaches the result: randn" in said(usual, ineffective)[-1]


class Net(nn.Module):
    """Dropout before or after the layer: the same draws, of other shapes."""

    def __init__(self, late):
        super().__init__()
        self.layer, self.drop, self.late = nn.Linear(3, 5), nn.Dropout(0.5), late

    def forward(self, x):
        return self.drop(self.layer(x)) if self.late else self.layer(self.drop(x))


def test_a_moved_dropout():
    nets = Net(late=False), Net(late=True)
    found = said(lambda: nets[0](torch.ones(2, 3)), lambda: nets[1](torch.ones(2, 3)))
    assert found[0].startswith("legacy draws one more dropout of 2x3 values, p 0.5 (cpu)")
    assert found[1].startswith("modern draws one more dropout of 2x5 values, p 0.5 (cpu)")


def test_another_seed_is_another_state():
    lines = align(ledger(usual), [{**draw, "before": "f" * 12} for draw in ledger(usual)])
    assert {line.kind for line in lines} == {"other state"}


DRAWS = st.lists(st.sampled_from(["rand", "randn", "randperm"]))


@given(DRAWS, DRAWS)
def test_every_draw_has_one_place(first, second):
    sides = [
        [{"op": op, "generator": "cpu", "values": 1, "shape": [1], "step": 0} for op in ops] for ops in (first, second)
    ]
    lines = align(*sides)
    assert [line.first_number for line in lines if line.first] == list(range(1, len(first) + 1))
    assert [line.second_number for line in lines if line.second] == list(range(1, len(second) + 1))
    moved = [line for line in lines if line.kind == "moved"]
    assert sum(line.first is not None for line in moved) == sum(line.second is not None for line in moved)


def test_legacy_loaders_draw_from_global_generators_and_modern_from_its_own():
    """The lab's unseeded window choice and shuffling, seen by running both loaders on the same clips."""
    from parity.ledger_runs import data_ledgers

    coarse, detail = data_ledgers("both", seed=0)
    legacy = [line.first for line in coarse.lines if line.first]
    assert [draw["op"] for draw in legacy if draw["generator"] == "python"].count("random.randint") == 4, (
        "one window a clip"
    )
    assert sum(draw["op"] == "random.shuffle" for draw in legacy) >= 2
    assert sum(draw["op"] == "random.shuffle" for line in detail.lines if (draw := line.first)) == 4
    for ledger_ in (coarse, detail):
        modern = [line.second for line in ledger_.lines if line.second]
        assert modern
        assert all(draw["generator"].startswith("own") for draw in modern), "nothing global moves"


def test_the_registered_draws_are_those_of_legacys_picture_transform():
    """D31: its result is only shown, so every draw is found to reach nothing."""
    source = ROOT / "legacy" / "AUcGAN" / "decalib" / "trainer_EM_AU_enc_dec_origT_aucGAN.py"
    calls = [node for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.Call)]
    compose = next(call for call in calls if ast.unparse(call.func) == "transforms.Compose")
    transform = eval(ast.unparse(compose), {"transforms": transforms})

    def step():
        images = torch.rand(3, 3, 16, 16)
        transform(images)  # in training_step
        transform(images)  # in fit
        return images.mean()

    draws = ledger(step)[1:]
    registered = next(entry for entry in REGISTRY if (entry.id, entry.fact) == ("D31", "draws"))
    assert _of_a_step(draws) == registered.legacy
    assert {draw["use"] for draw in draws} <= {"no result", "unchanged"}
    assert [draw["module"] for draw in draws][:3] == ["RandomHorizontalFlip", "RandomRotation", "ColorJitter"]
