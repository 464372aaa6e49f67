"""The list of operations: complete, in order, placed, and without effect on what it listens to."""

import contextlib
import inspect

import torch
from torch import nn
from torch.nn.modules import module as hooks

from parity.ops import listening


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 1)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


class Log:
    def __init__(self):
        self.calls, self.values = [], []

    def before(self, call, inputs):
        self.entering = [tensor.clone() for tensor in inputs]

    def after(self, call, inputs, outputs):
        self.calls.append(call)
        self.values.append((self.entering, [tensor.clone() for tensor in outputs]))

    def named(self, op):
        return [call for call in self.calls if call.op.startswith(op)]


def run(model, listener=None):
    torch.manual_seed(0)
    x = torch.randn(2, 3)
    if listener is None:
        model(x).sum().backward()
    else:
        with listening(listener, {"": model}):
            model(x).sum().backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


def test_operations_carry_module_line_and_direction():
    log, model = Log(), Small()
    run(model, log)
    assert [call.index for call in log.calls] == list(range(len(log.calls)))
    assert [call.module for call in log.named("aten.addmm")] == ["first", "second"]
    line = inspect.getsourcelines(Small.forward)[1] + 1
    assert log.named("aten.relu")[0].source == f"{__file__}:{line}"
    (threshold,) = log.named("aten.threshold_backward")
    assert threshold.backward
    assert threshold.source == log.named("aten.relu")[0].source
    assert {call.module for call in log.named("aten.mm")} == {"first", "second"}
    assert all(call.view for call in log.named("aten.t.default"))


def test_an_input_is_shown_before_it_is_overwritten():
    log, value = Log(), torch.ones(2)
    with listening(log, {}):
        value.mul_(3)
    ((entering, leaving),) = log.values
    assert entering[0].tolist() == [1, 1]
    assert leaving[0].tolist() == [3, 3]


def test_listening_changes_nothing_and_leaves_nothing():
    model = Small()
    bare = run(model)
    model.zero_grad()
    watched = run(model, Log())
    assert all(torch.equal(a, b) for a, b in zip(bare, watched, strict=True))
    assert not hooks._global_forward_hooks
    assert not hooks._global_forward_pre_hooks
    assert not hooks._global_forward_hooks_always_called


def test_a_module_that_raises_does_not_shift_the_path():
    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError

    log, model, broken = Log(), Small(), Broken()
    with listening(log, {"m": model, "b": broken}):
        with contextlib.suppress(RuntimeError):
            broken(torch.ones(1))
        model(torch.ones(1, 3))
    assert [call.module for call in log.named("aten.addmm")] == ["m.first", "m.second"]
