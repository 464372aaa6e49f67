"""Toy pairs, each with one planted difference that must be named by line and operation, whatever else is rewritten."""

import inspect

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from parity.culprit import compare_tapes
from parity.perturb import perturbed
from parity.tape import record, with_floors
from parity.tape_file import read_tape, write_tape

W = torch.randn(8, 8, generator=torch.Generator().manual_seed(1))
GAIN = torch.randn(8, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def inputs():
    return {"x": torch.randn(3, 8, 4, generator=torch.Generator().manual_seed(0))}


def both(legacy, modern, inputs, modules=None):
    moved = [record(legacy, perturbed(inputs, draw), modules) for draw in range(2)]
    return record(modern, inputs, modules), with_floors(record(legacy, inputs, modules), moved)


def found(legacy, modern, inputs, modules=None):
    return compare_tapes("toy", *both(legacy, modern, inputs, modules))


def planted(function):
    """The line that is marked, in this file."""
    lines, start = inspect.getsourcelines(function)
    return next(start + index for index, line in enumerate(lines) if "# planted" in line)


def legacy(x):
    hidden = x["x"].transpose(1, 2) @ W
    hidden = F.layer_norm(hidden * 0.01, (8,), eps=1e-5)
    hidden = hidden * GAIN + 1.0
    return {"y": hidden.relu().sum(1)}


def reassociated(x):
    hidden = torch.einsum("bct,cd->tbd", x["x"] * 0.01, W).transpose(0, 1)
    hidden = 1.0 + GAIN * F.layer_norm(hidden, (8,), eps=1e-5)
    return {"y": hidden.clamp(min=0).sum(1)}


def wrong_eps(x):
    hidden = torch.einsum("bct,cd->btd", x["x"], W)
    hidden = F.layer_norm(hidden * 0.01, (8,), eps=1.1e-5)  # planted
    return {"y": (1.0 + GAIN * hidden).relu().sum(1)}


def wrong_constant(x):
    hidden = x["x"].transpose(1, 2) @ W
    hidden = F.layer_norm(hidden * 0.01, (8,), eps=1e-5)
    hidden = GAIN * hidden
    hidden = hidden + 1.0001  # planted
    return {"y": hidden.relu().sum(1)}


def wrong_axis(x):
    hidden = x["x"].transpose(1, 2)
    other = W.t()  # planted
    hidden = F.layer_norm(hidden @ other * 0.01, (8,), eps=1e-5)
    return {"y": (hidden * GAIN + 1.0).relu().sum(1)}


def missing_term(x):
    hidden = x["x"].transpose(1, 2) @ W
    hidden = F.layer_norm(hidden * 0.01, (8,), eps=1e-5)
    hidden = hidden * GAIN  # planted
    hidden = hidden.relu()
    return {"y": hidden.sum(1)}


def wrong_part(x):
    hidden = x["x"].transpose(1, 2) @ W
    hidden = F.layer_norm(hidden * 0.01, (8,), eps=1e-5)
    hidden = hidden * GAIN
    hidden[:, 1:] += 1.0  # planted
    return {"y": hidden.relu().sum(1)}


def wrong_order(x):
    hidden = x["x"].transpose(1, 2) @ W
    hidden = F.layer_norm(hidden * 0.01, (8,), eps=1e-5)
    gain = GAIN.roll(1)  # planted
    return {"y": (hidden * gain + 1.0).relu().sum(1)}


def wrong_mean(x):
    hidden = x["x"].transpose(1, 2) @ W
    hidden = F.layer_norm(hidden * 0.01, (8,), eps=1e-5)
    hidden = (hidden * GAIN + 1.0).relu()
    return {"y": hidden.mean(1)}  # planted


def arranged(x):
    return {"y": legacy(x)["y"].flip(1)}  # planted


@pytest.mark.parametrize(
    ("modern", "op"),
    [
        (wrong_eps, "native_layer_norm"),
        (wrong_constant, "add"),
        (wrong_axis, "t"),
        (missing_term, "mul"),
        (wrong_part, "slice"),
        (wrong_order, "roll"),
        (wrong_mean, "mean"),
        (arranged, "flip"),
    ],
)
def test_the_operation_and_its_line_are_named(modern, op, inputs):
    here = found(legacy, modern, inputs)
    assert (here.op.split(".")[1], here.line) == (op, planted(modern))
    assert here.file == "tests/parity/test_locate.py"
    assert here.function == modern.__name__


def test_arguments_tell_what_is_wrong(inputs):
    here = found(legacy, wrong_eps, inputs)
    assert here.differences == ["eps 1.1e-05 instead of 1e-05"]
    assert here.legacy.function == "legacy"
    assert here.legacy.line == inspect.getsourcelines(legacy)[1] + 2
    assert found(legacy, wrong_constant, inputs).differences == ["other 1.0001 instead of 1.0"]
    assert "legacy's add is missing after it" in found(legacy, missing_term, inputs).differences


def test_the_same_code_has_no_culprit(inputs):
    assert found(legacy, legacy, inputs) is None


def test_a_harmless_reformulation_shows_nothing_beyond_rounding(inputs):
    here = found(legacy, reassociated, inputs)
    assert here is None or here.rel_l2 < 1e-6


class Net(nn.Module):
    def __init__(self, eps=1e-5, function=torch.relu):
        super().__init__()
        torch.manual_seed(3)
        self.first, self.norm, self.second = nn.Linear(4, 6), nn.LayerNorm(6, eps=eps), nn.Linear(6, 2)
        self.function = function

    def forward(self, x):
        return self.second(self.function(self.norm(self.first(x) * 0.01)))


def gradients(net):
    def replay(x):
        net.zero_grad()
        net(x["x"]).square().sum().backward()
        return {name: parameter.grad for name, parameter in net.named_parameters()}

    return replay


def test_the_module_is_named(inputs):
    mine, theirs = Net(eps=1.1e-5), Net()
    modern = record(gradients(mine), inputs, {"net": mine})
    here = compare_tapes("toy", modern, record(gradients(theirs), inputs, {"net": theirs}))
    assert (here.module, here.op) == ("net.norm", "aten.native_layer_norm.default")


class WrongBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.relu()

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * (x >= 0.01)  # planted


def test_a_wrong_gradient_is_found_in_its_own_code(inputs):
    mine, theirs = Net(function=WrongBackward.apply), Net()
    here = compare_tapes("toy", record(gradients(mine), inputs), record(gradients(theirs), inputs))
    assert here.backward
    assert here.line == planted(WrongBackward)


def test_a_parameter_that_legacy_lacks_is_named(inputs):
    mine, theirs = Net(), Net()
    with torch.no_grad():
        mine.first.bias[2] += 0.1
    modern = record(lambda x: {"y": mine(x["x"])}, inputs, {"net": mine})
    here = compare_tapes("toy", modern, record(lambda x: {"y": theirs(x["x"])}, inputs, {"net": theirs}))
    assert here.module == "net.first"
    assert "net.first.bias does not occur in legacy" in here.differences


def test_a_tape_survives_the_disk(inputs, tmp_path):
    modern, theirs = both(legacy, wrong_eps, inputs)
    write_tape(tmp_path / "tape.npz", theirs)
    assert compare_tapes("toy", modern, read_tape(tmp_path / "tape.npz")) == compare_tapes("toy", modern, theirs)


def test_recording_leaves_the_inputs_alone(inputs):
    before = inputs["x"].clone()

    def spoiling(x):
        x["x"].mul_(2)
        return {"y": x["x"]}

    record(spoiling, inputs)
    assert torch.equal(inputs["x"], before)
