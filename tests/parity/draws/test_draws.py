"""The draws of small pieces of code: found, named, followed, and not disturbed."""

import random
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from parity.draws import record_draws
from parity.randomness import rng_digests, seed_everything


def ops(log):
    return [(draw["op"], draw["generator"], draw["values"]) for draw in log.draws]


def everything():
    """Every kind of draw, then numbers that depend on the state left behind."""
    layer = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    out = layer(torch.ones(3, 4))
    own = torch.Generator().manual_seed(3)
    found = [out, torch.rand(2), torch.randperm(5), torch.randn(3, generator=own), torch.empty(2).normal_()]
    found += [
        torch.bernoulli(torch.full((3,), 0.5)),
        F.dropout(torch.ones(4), 0.2),
        torch.multinomial(torch.ones(3), 2),
    ]
    found += [torch.tensor([random.random(), random.randint(0, 9), np.random.rand(), *np.random.permutation(3)])]
    items = list(range(4))
    random.shuffle(items)
    out.sum().backward()
    return [value.detach().clone() for value in (*found, torch.tensor(items), layer[0].weight.grad)]


def test_nothing_is_disturbed():
    seed_everything(0)
    expected, states = everything(), rng_digests()
    functions = random.random, np.random.rand, torch.manual_seed
    seed_everything(0)
    with record_draws() as log:
        found = everything()
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))
    assert rng_digests() == states
    assert (random.random, np.random.rand, torch.manual_seed) == functions
    assert not torch.nn.modules.module._global_forward_hooks
    assert not torch.nn.modules.module._global_forward_pre_hooks
    assert len(log.draws) == 15


def test_each_draw_is_named_in_order():
    with record_draws() as log:
        torch.rand(2, 3)
        random.randint(1, 5)
        np.random.permutation(7)
        torch.randperm(5)
        torch.empty(4).uniform_(0, 1)
        nn.Dropout(0.25)(torch.ones(6))
        random.shuffle([1, 2, 3])
        random.sample(range(9), 4)
        np.random.rand(2, 2)
    assert ops(log) == [
        ("rand", "cpu", 6),
        ("random.randint", "python", 1),
        ("numpy.random.permutation", "numpy", 7),
        ("randperm", "cpu", 5),
        ("uniform", "cpu", 4),
        ("dropout", "cpu", 6),
        ("random.shuffle", "python", 3),
        ("random.sample", "python", 4),
        ("numpy.random.rand", "numpy", 4),
    ]
    for draw in log.draws:
        assert draw["before"] != draw["after"]
        assert draw["where"].startswith("tests/parity/draws/test_draws.py:")
    assert log.draws[5]["p"] == 0.25
    assert log.draws[5]["module"] == "Dropout"
    cpu = [draw for draw in log.draws if draw["generator"] == "cpu"]
    assert all(one["after"] == other["before"] for one, other in pairwise(cpu)), "an unbroken chain"


def test_dropout_inside_c_plus_plus_is_seen():
    query = torch.ones(1, 2, 3, 4)
    with record_draws() as log:
        F.scaled_dot_product_attention(query, query, query, dropout_p=0.5)
    (draw,) = log.draws
    assert draw["op"] == "scaled_dot_product_attention"
    assert "bernoulli" in draw["kernel"] or "dropout" in draw["kernel"]


def test_dropout_in_a_fused_recurrent_network_is_seen():
    lstm = nn.LSTM(3, 3, num_layers=2, dropout=0.5)
    with record_draws() as log:
        lstm(torch.ones(2, 1, 3))
    assert [draw["op"] for draw in log.draws] == ["lstm"]


def test_masks_are_those_that_were_used():
    torch.manual_seed(0)
    with record_draws() as log:
        dropped = [F.dropout(torch.ones(50), p) for p in (0.3, 0.6)]
    assert torch.equal(log.masks, torch.cat([(value != 0) for value in dropped]).to(torch.uint8))
    with record_draws() as log:
        F.dropout(torch.ones(5), 0.3, training=False)
        F.dropout(torch.ones(5), 0.0)
    assert (log.masks, log.draws) == (None, [])


def test_own_generators_are_told_apart_from_the_global_one():
    own = torch.Generator().manual_seed(11)
    with record_draws() as log:
        torch.randperm(4, generator=own)
        torch.rand(2, generator=torch.default_generator)
    assert [draw["generator"] for draw in log.draws] == ["own (seed 11)", "cpu"]


def test_what_nothing_explains_is_still_seen():
    from random import random as by_name

    with record_draws() as log:
        by_name()
        torch.rand(1)
        by_name()
    assert [(draw["op"], draw["generator"]) for draw in log.draws] == [("rand", "cpu"), ("unseen", "python")]
    with record_draws() as log:
        by_name()
        random.random()
    assert [draw["op"] for draw in log.draws] == ["unseen", "random.random"]


def test_seeding_inside_is_logged():
    with record_draws() as log:
        random.seed(0), np.random.seed(0), torch.manual_seed(0)
    assert [(draw["op"], draw["use"]) for draw in log.draws] == [
        *(("random.seed", "seed"), ("numpy.random.seed", "seed"), ("torch.manual_seed", "seed"))
    ]


class Flip(nn.Module):
    def forward(self, x):
        return x.flip(-1) if torch.rand(1) < self.p else x


def flip(p):
    module = Flip()
    module.p = p
    return module


def uses(code):
    with record_draws() as log:
        log.reaches(code())
    return [draw["use"] for draw in log.draws]


def test_what_becomes_of_the_numbers():
    x = torch.ones(4, requires_grad=True)
    assert uses(lambda: x * torch.rand(4)) == ["result"]
    assert uses(lambda: (torch.rand(4), x * 2)[1]) == ["never used"]
    assert uses(lambda: (torch.rand(4).view(2, 2), x * 2)[1]) == ["never used"], "a view has read nothing"
    assert uses(lambda: (torch.rand(4) + 1, x * 2)[1]) == ["no result"]
    assert uses(lambda: x * torch.rand(1).item()) == ["number"], "gone from sight, so nothing is claimed"
    assert uses(lambda: x[: torch.randperm(3).tolist()[0] + 1]) == ["number"]
    assert uses(lambda: flip(1.0)(x)) == ["result"]
    assert uses(lambda: flip(0.0)(x)) == ["unchanged"]
    assert uses(lambda: (flip(1.0)(x), x)[1]) == ["no result"]
    assert uses(lambda: random.random()) == ["not tracked"]


def test_a_gradient_carries_on_what_the_forward_pass_drew():
    def step():
        weight = nn.Parameter(torch.ones(3))
        optimizer = torch.optim.Adam([weight])
        (weight * torch.rand(3)).sum().backward()
        torch.randn(3)
        optimizer.step()
        return weight

    assert uses(step) == ["result", "never used"]


def test_an_operation_that_writes_into_its_argument_carries_on():
    def written():
        total = torch.zeros(3)
        torch._foreach_add_([total], [torch.rand(3)])
        return total

    assert uses(written) == ["result"]


def test_without_a_named_result_nothing_is_said_of_it():
    with record_draws() as log:
        torch.rand(3) + 1
        torch.rand(3)
    assert [draw["use"] for draw in log.draws] == ["used", "never used"]


def test_an_error_leaves_nothing_behind():
    before = random.random

    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError

    with pytest.raises(RuntimeError), record_draws():
        Broken()(torch.ones(1))
    assert random.random == before
    assert not torch.nn.modules.module._global_forward_hooks


@pytest.mark.gpu
@pytest.mark.skipif("not torch.cuda.is_available()", reason="no CUDA device here")
def test_draws_on_the_gpu_are_named_too():
    with record_draws() as log:
        F.dropout(torch.ones(5, device="cuda"), 0.5)
        torch.rand(3, device="cuda")
    assert [(draw["op"], draw["generator"]) for draw in log.draws] == [("dropout", "cuda:0"), ("rand", "cuda:0")]
    assert log.masks.numel() == 5
