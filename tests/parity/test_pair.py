"""Two models in step: the same result as alone, the right operation blamed, whatever kind of bug was planted."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules import module as hooks

from parity.pair import audit_pair
from parity.pair.watch import Cause


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        x = torch.relu_(self.norm(self.conv(x)))
        return self.head(self.drop(x.mean((2, 3))))


def pair():
    torch.manual_seed(1)
    net = Net()
    return net, copy.deepcopy(net)


X = torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)


def total(outputs, inputs):
    return outputs.square().sum()


def audit(left, right, **given):
    return audit_pair(left, right, X, loss=total, **given)


def test_equal_models_give_equal_bytes_everywhere():
    found = audit(*pair())
    assert found.first is None
    assert found.ran.in_order
    assert all(drift.bitwise for drift in found.ran.values.values())
    assert {"output/out", "loss/loss", "gradients/conv.weight", "buffers/norm.running_mean"} <= set(found.ran.values)
    assert any(entry.reference.backward for entry in found.ran.entries)
    assert any(entry.reference.random for entry in found.ran.entries)  # each side draws the same mask


def test_watching_changes_nothing_and_leaves_nothing():
    left, right = pair()
    alone = copy.deepcopy(left)
    before = torch.get_rng_state()
    torch.manual_seed(5)
    total(alone(X), X).backward()
    torch.set_rng_state(before)
    audit(left, right, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    for model in (left, right):
        for (name, p), q in zip(alone.named_parameters(), model.parameters(), strict=True):
            assert torch.equal(p.grad, q.grad), name
        for (name, a), b in zip(alone.named_buffers(), model.buffers(), strict=True):
            assert torch.equal(a, b), name
    assert not hooks._global_forward_hooks
    assert not hooks._global_forward_pre_hooks
    assert not any(m._forward_hooks or m._backward_hooks for m in left.modules())


def change_weight(model):
    with torch.no_grad():
        model.head.weight[1, 2] += 1e-3


def other_eps(model):
    model.norm.eps = 1e-4


def other_rate(model):
    model.drop.p = 0.4


def negate(model):
    model.head.forward = lambda x: nn.functional.linear(x.flip(0), model.head.weight, model.head.bias)


@pytest.mark.parametrize(
    ("bug", "op", "module", "cause", "detail"),
    [
        (change_weight, "aten.addmm.default", "head", Cause.WEIGHT, "head.weight"),
        (other_eps, "aten.native_batch_norm.default", "norm", Cause.ARGUMENT, "eps 0.0001 instead of 1e-05"),
        (other_rate, "", "drop", Cause.ARGUMENT, "0.6 instead of 0.5"),
        (negate, "aten.addmm.default", "head", Cause.INPUT, "input 1"),
    ],
)
def test_the_first_operation_that_departs_is_named_with_its_cause(bug, op, module, cause, detail):
    left, right = pair()
    bug(right)
    first = audit(left, right).first
    assert first.candidate.module == module
    assert first.cause is cause
    assert detail in first.detail
    assert op in ("", first.candidate.op)
    assert first.candidate.source.startswith(__file__)
    assert first.reference.source.startswith(__file__)


def test_updates_are_compared_too():
    left, right = pair()
    optimizers = torch.optim.Adam(left.parameters()), torch.optim.Adam(right.parameters(), eps=1e-5)
    found = audit(left, right, optimizers=optimizers)
    assert found.ran.values["update/exp_avg of conv.weight"].bitwise
    assert not found.ran.values["update/conv.weight"].bitwise
    assert found.ran.values["update/step of conv.weight"].bitwise


class Renamed(nn.Module):
    """The same net in other words: no in-place operation, a mean in two steps, other names."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.classify, self.drop = nn.Linear(4, 2), nn.Dropout(0.5)

    def forward(self, x):
        x = torch.relu(self.features(x))
        return self.classify(self.drop(x.sum((2, 3)) / (x.shape[2] * x.shape[3])))


def test_a_rewritten_model_is_aligned_and_its_stages_compared():
    left, right = pair()[0], Renamed()
    names = {"conv": "features.0", "norm": "features.1", "head": "classify"}
    right.load_state_dict(
        {
            k.replace("conv", "features.0").replace("norm", "features.1").replace("head", "classify"): v
            for k, v in left.state_dict().items()
        }
    )
    found = audit(left, right, names=names, stages={"norm": ("norm", "features.1")}, draws=3)
    assert not found.ran.in_order
    assert found.ran.values["norm/out"].bitwise
    assert "norm/gradient of out" in found.ran.values
    drift = found.ran.values["output/out"]
    assert drift.rel_l2 < 1e-5
    assert found.floors["output/out"].rel_l2 > 0
    assert found.unstable == {"reference": [], "candidate": []}


def test_a_side_that_fails_ends_the_audit_with_its_error():
    left, right = pair()
    right.head.forward = lambda x: 1 / 0
    with pytest.raises(ZeroDivisionError) as raised:
        audit(left, right)
    assert raised.value.__notes__ == ["raised while the candidate ran"]


def test_shared_weights_are_refused():
    left, _ = pair()
    with pytest.raises(ValueError, match="deepcopy"):
        audit(left, left)


class Noisy(Net):
    def forward(self, x):
        return super().forward(x + random.random() * torch.rand(1) * float(np.random.rand()))


def test_each_side_has_the_generators_to_itself_and_the_caller_keeps_them():
    torch.manual_seed(1)
    left = Noisy()
    before = random.getstate(), np.random.get_state()[1].tolist(), np.random.get_bit_generator()
    found = audit(left, copy.deepcopy(left))
    assert found.first is None
    assert (random.getstate(), np.random.get_state()[1].tolist(), np.random.get_bit_generator()) == before
