"""An audit must not change what it observes: each way in which a tap could is planted once and must be told."""

from contextlib import contextmanager
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from parity.aftermath import changed, marks, state_digests, unequal
from parity.comparison import compare
from parity.observer import KINDS, LEFTOVERS, RETURNED, Observation, findings
from parity.randomness import seed_everything
from parity.verdict import Verdict


class Pair(nn.Module):
    def __init__(self, branches):
        super().__init__()
        self.branches = branches

    def forward(self, hidden):
        return sum(F.relu(branch(hidden)) for branch in self.branches)


class Small(nn.Module):
    """Every kind of state: parameters, running statistics, dropout, and a value that three layers read."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Linear(8, 8)
        self.norm = nn.BatchNorm1d(8)
        self.branches = nn.ModuleList(nn.Linear(8, 4) for _ in range(3))
        self.pair = Pair(self.branches[:2])

    def forward(self, x):
        hidden = F.dropout(self.norm(self.scale(x)), 0.5, self.training)
        return self.pair(hidden) + F.relu(self.branches[2](hidden))


def run(tap=None):
    """One training step, `tap(net, optimizer)` being a context around it -> (digests, loss, marks that changed)."""
    seed_everything(0)
    net = Small()
    optimizer = torch.optim.Adam(net.parameters())
    optimizer.step()  # torch wraps an optimizer's class at its first use
    before, x = marks([net, optimizer]), torch.randn(16, 8)
    with tap(net, optimizer) if tap else mock.MagicMock():
        loss = net(x).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return state_digests({"net": net}, {"adam": optimizer}), loss.detach(), changed(before, marks([net, optimizer]))


def observed(tap=None, repeats=True):
    bare, expected, _ = run()
    traced, loss, left = run(tap)
    observation = Observation(
        traced=traced, bare=bare, returned={"losses/all": compare(expected, loss)}, leftovers={"the traced run": left}
    )
    return {part.name.split(": ", 1)[1]: part for part in findings("legacy", observation, repeats=repeats)}


def words(found):
    return {name: part.verdict for name, part in found.items()}


@contextmanager
def looking(net, optimizer):
    """A tap as they should be: it copies."""
    kept = []
    handle = net.scale.register_forward_hook(lambda *call: kept.append(call[2].detach().clone()))
    with mock.patch.object(net.norm, "forward", net.norm.forward):
        yield
    handle.remove()


@contextmanager
def in_place(net, optimizer):
    handle = net.scale.register_forward_hook(lambda _, __, output: output.data.mul_(1.0000001))
    yield
    handle.remove()


@contextmanager
def drawing(net, optimizer):
    handle = net.scale.register_forward_hook(lambda *_: torch.rand(()) and None)
    yield
    handle.remove()


@contextmanager
def drawing_elsewhere(net, optimizer):
    np.random.rand()
    yield


@contextmanager
def scaling_gradients(net, optimizer):
    handle = net.branches[0].register_full_backward_hook(lambda _, grads, __: tuple(1.5 * grad for grad in grads))
    yield
    handle.remove()


@contextmanager
def running_again(net, optimizer):
    with torch.no_grad():
        state = torch.get_rng_state()
        net(torch.ones(16, 8))
        torch.set_rng_state(state)
    yield


@contextmanager
def evaluating_after(net, optimizer):
    yield
    net.eval()


@contextmanager
def touching_the_moments(net, optimizer):
    yield
    next(iter(optimizer.state.values()))["exp_avg"].mul_(1.0000001)


@contextmanager
def keeping_a_gradient(net, optimizer):
    yield
    net.scale.bias.grad = None


def test_a_tap_that_only_copies_leaves_the_same_bytes():
    found = words(observed(looking))
    assert set(found.values()) == {Verdict.IDENTICAL}
    assert set(found) == {RETURNED, *KINDS, LEFTOVERS}


@pytest.mark.parametrize(
    ("tap", "kinds"),
    [
        (in_place, {"gradients", "parameters", "buffers"}),
        (drawing, {RETURNED, "gradients", "random generators"}),
        (drawing_elsewhere, {"random generators"}),
        (scaling_gradients, {"gradients", "parameters", "optimizer state"}),
        (running_again, {"buffers"}),
        (evaluating_after, {"modes"}),
        (touching_the_moments, {"optimizer state"}),
        (keeping_a_gradient, {"gradients"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_tap_that_changes_the_run_is_caught(tap, kinds):
    found = words(observed(tap))
    assert kinds <= {name for name, word in found.items() if word is Verdict.DRIFT}
    assert found[LEFTOVERS] is Verdict.IDENTICAL


def test_a_full_backward_hook_that_does_nothing_is_caught_by_its_bits():
    """It inserts a node, so gradients of a value with several readers add up in another order."""
    found = words(observed(hooked_backward))
    assert found["gradients"] is Verdict.DRIFT


@contextmanager
def hooked_backward(net, optimizer):
    handle = net.pair.register_full_backward_hook(lambda *_: None)
    yield
    handle.remove()


LEFT = {
    "forward hook": lambda net, _: net.scale.register_forward_hook(lambda *_: None),
    "forward pre-hook": lambda net, _: net.scale.register_forward_pre_hook(lambda *_: None),
    "backward hook": lambda net, _: net.scale.register_full_backward_hook(lambda *_: None),
    "tensor hook": lambda net, _: net.scale.weight.register_hook(lambda grad: None),
    "accumulation hook": lambda net, _: net.scale.weight.register_post_accumulate_grad_hook(lambda _: None),
    "optimizer hook": lambda _, optimizer: optimizer.register_step_pre_hook(lambda *_: None),
    "forward of one module": lambda net, _: setattr(net.norm, "forward", net.norm.forward),
    "mock of one module": lambda net, _: setattr(net.norm, "forward", mock.MagicMock()),
    "step of one optimizer": lambda _, optimizer: setattr(optimizer, "step", lambda: None),
}
SWITCHED = {
    "function": (lambda: setattr(F, "relu", lambda x: x), lambda kept=F.relu: setattr(F, "relu", kept)),
    "method": (
        lambda: setattr(torch.Tensor, "relu", lambda x: x),
        lambda: delattr(torch.Tensor, "relu"),
    ),
    "gradients": (lambda: torch.set_grad_enabled(False), lambda: torch.set_grad_enabled(True)),
    "dtype": (lambda: torch.set_default_dtype(torch.float64), lambda: torch.set_default_dtype(torch.float32)),
    "printing": (lambda: torch.set_printoptions(precision=9), lambda: torch.set_printoptions(profile="default")),
    "threads": (
        lambda: torch.set_num_threads(torch.get_num_threads() + 1),
        lambda: torch.set_num_threads(torch.get_num_threads() - 1),
    ),
    "benchmark": (
        lambda: setattr(torch.backends.cudnn, "benchmark", True),
        lambda: setattr(torch.backends.cudnn, "benchmark", False),
    ),
}


@pytest.mark.parametrize("leave", LEFT.values(), ids=LEFT)
def test_what_stays_hooked_is_found(leave):
    net = Small()
    optimizer = torch.optim.Adam(net.parameters())
    before = marks([net, optimizer])
    assert not changed(before, marks([net, optimizer]))
    leave(net, optimizer)
    assert len(changed(before, marks([net, optimizer]))) >= 1


@pytest.mark.parametrize(("switch", "back"), SWITCHED.values(), ids=SWITCHED)
def test_what_stays_patched_or_switched_is_found(switch, back):
    before = marks()
    switch()
    try:
        assert changed(before, marks())
    finally:
        back()
    assert not changed(before, marks())


def test_an_interpreter_profiler_that_stays_is_found():
    import sys

    before = marks()
    kept = sys.getprofile()
    sys.setprofile(lambda *_: None)
    try:
        assert changed(before, marks()) == ["profiler of the interpreter"]
    finally:
        sys.setprofile(kept)


def test_a_leftover_is_a_finding_with_its_place():
    observation = Observation(traced={}, bare={}, returned={}, leftovers={"the traced run": ["torch.relu"]})
    last = findings("modern", observation)[-1]
    assert (last.name, last.verdict) == (f"observer, modern: {LEFTOVERS}", Verdict.DRIFT)
    assert "torch.relu (the traced run)" in last.detail


def test_what_was_not_looked_at_is_no_agreement():
    found = findings("modern", Observation(traced={}, bare={}, returned={}))
    assert {part.verdict for part in found} == {Verdict.NOT_EXERCISED}


def test_a_side_that_does_not_repeat_itself_is_not_blamed_on_the_taps():
    found = observed(drawing, repeats=False)
    assert found["gradients"].verdict is Verdict.UNSTABLE
    assert observed(drawing, repeats=True)["gradients"].verdict is Verdict.DRIFT


def test_digests_see_one_bit_and_a_missing_gradient():
    net = Small()
    before = state_digests({"net": net}, {})
    with torch.no_grad():
        net.scale.weight[0, 0] = torch.nextafter(net.scale.weight[0, 0], torch.tensor(9.0))
    net.scale.bias.grad = torch.zeros(8)
    assert unequal(before, state_digests({"net": net}, {})) == [
        "gradients/net.scale.bias",
        "parameters/net.scale.weight",
    ]
