"""The update of a pair: no false alarm where gradients near eps differ by rounding, every optimizer bug still found."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from parity.pair import audit_pair
from parity.pair.adapter import audit_adapter, load_adapter
from parity.pair.isolated import scattered
from parity.pair.names import match_weights
from parity.pair.verdicts import judged
from parity.schema import Results
from parity.verdict import Verdict


class Near(nn.Module):
    """The gradient of the second weight is about Adam's eps; beside the first, a change of it by 1e-8 is rounding."""

    def __init__(self, small):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.5, 0.25, 0.75]))
        self.small = small

    def forward(self, x):
        return (self.weight * torch.tensor([1.0, self.small, 0.3])).sum() * x


X = torch.tensor(1.0)
OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
    "sgd": lambda p, **given: torch.optim.SGD(p, momentum=0.9, **given),
    "fused": lambda p, **given: torch.optim.Adam(p, fused=True, **given),
}


def update_of(left, right, make, other=None, **given) -> Results:
    optimizers = make(left.parameters(), lr=1e-3), (other or make)(right.parameters(), **{"lr": 1e-3, **given})
    audit = audit_pair(left, right, X, loss=lambda out, _: out, optimizers=optimizers, draws=4)
    return judged(audit, "near", command="", scope={}, timings={})


def drifting(results):
    return {row.tensor for row in results.rows if row.stage == "update" and row.verdict is Verdict.DRIFT}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_gradient_near_eps_that_differs_by_rounding_is_no_drift_of_the_update(make):
    results = update_of(Near(1e-8), Near(2e-8), make)
    assert results.exit_code == 0, results.answer


def test_the_reason_says_that_the_rounding_of_the_gradients_was_inherited():
    results = update_of(Near(1e-8), Near(2e-8), torch.optim.Adam)
    row = next(row for row in results.rows if (row.stage, row.tensor) == ("update", "weight"))
    assert row.verdict is Verdict.ROUNDING
    assert "inherited from gradients that are rounding" in row.reason
    assert "the same step on the same gradients agrees" in row.reason
    assert row.max_abs > 1e-4  # a large part of the learning rate
    assert row.floor_max_abs >= row.max_abs  # the floor shown is the one it was held against


BUGS = {
    "lr": {"lr": 1e-3 * 1.001},
    "eps": {"eps": 1e-6},
    "betas": {"betas": (0.9, 0.99)},
    "weight_decay": {"weight_decay": 0.1},
}


@pytest.mark.parametrize("bug", BUGS)
@pytest.mark.parametrize("small", [1e-8, 2e-8], ids=["equal gradients", "rounding"])
def test_another_setting_drifts_and_is_named_with_both_values(bug, small):
    results = update_of(Near(1e-8), Near(small), torch.optim.AdamW, **BUGS[bug])
    assert results.exit_code == 1
    assert drifting(results)
    assert f"The gradients agree; the optimizers do not: {bug} " in results.answer
    assert "First to depart" not in results.answer


def test_another_class_is_named():
    results = update_of(Near(1e-8), Near(1e-8), torch.optim.Adam, torch.optim.RMSprop)
    assert "class RMSprop instead of Adam" in results.answer


class Halved(torch.optim.SGD):
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = parameter.grad / 2
        super().step(closure)


def test_a_step_that_differs_without_a_setting_says_so():
    results = update_of(Near(1e-8), Near(1e-8), torch.optim.SGD, type("SGD", (Halved,), {}))
    assert "so do the optimizers' class and settings" in results.answer
    assert drifting(results) == {"weight"}


def test_a_step_that_cannot_be_made_again_stays_drift_and_says_why():
    def hooked(parameters, **given):
        optimizer = torch.optim.Adam(parameters, **given)
        optimizer.register_step_pre_hook(lambda *_: None)
        return optimizer

    results = update_of(Near(1e-8), Near(2e-8), hooked)
    row = next(row for row in results.rows if (row.stage, row.tensor) == ("update", "weight"))
    assert row.verdict is Verdict.DRIFT
    assert "could not be made again on the candidate's gradients: the step hooks are not" in row.reason


ADAPTER = """
import torch
from torch import nn

class Old(nn.Module):
    def __init__(self):
        super().__init__()
        self.P, self.bias = nn.Parameter(torch.randn(6, 12) / 3), nn.Parameter(torch.zeros(12))
        self.norm, self.out = nn.LayerNorm(12), nn.Linear(12, 3)

    def forward(self, x):
        return self.out(self.norm(torch.relu(x @ self.P + self.bias)))

class New(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(6, 6), nn.Linear(6, 6)
        self.norm, self.out = nn.LayerNorm(12), nn.Linear(12, 3)

    def forward(self, x):
        return self.out(self.norm(torch.cat([self.left(x), self.right(x)], -1).relu()))

def reference(): return Old().train()
def candidate(): return New().train()
def inputs(seed): return torch.randn(5, 6, generator=torch.Generator().manual_seed(seed))
def loss(outputs, inputs): return outputs.square().sum()

def optimizer(model):
    new = isinstance(model, New)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    top = TOP if new else 1.0
    optimizer.register_step_pre_hook(lambda *_: torch.nn.utils.clip_grad_norm_(model.parameters(), top) and None)
    return optimizer

WEIGHTS = {
    "left.weight": lambda ref: ref["P"][:, :6].T, "left.bias": lambda ref: ref["bias"][:6],
    "right.weight": lambda ref: ref["P"][:, 6:].T, "right.bias": lambda ref: ref["bias"][6:],
}
"""


def clipped(tmp_path, seed, top=1.0):
    path = tmp_path / "clipped.py"
    path.write_text(ADAPTER.replace("TOP", str(top)))
    return judged(audit_adapter(load_adapter(path), seed=seed), "clipped", command="", scope={}, timings={})


@pytest.mark.parametrize("seed", range(4))
def test_a_harmless_refactor_with_clipping_and_split_transposed_weights_is_no_alarm(tmp_path, seed):
    results = clipped(tmp_path, seed)
    assert results.exit_code == 0, results.answer


def test_other_clipping_is_seen_and_its_place_named(tmp_path):
    results = clipped(tmp_path, 0, top=10.0)
    assert results.exit_code == 1
    assert "gradient after step hooks of" in results.first_divergence
    assert "look at their step hooks (gradient clipping)" in results.answer


class Split(nn.Module):
    def __init__(self, shapes):
        super().__init__()
        for number, shape in enumerate(shapes):
            self.register_parameter(f"p{number}", nn.Parameter(torch.randn(shape)))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.permutations(range(3)))
def test_scattered_gradients_are_the_inverse_of_what_gathers_weights(rows, columns, order):
    left, right = Split([(3 * rows, columns)]), Split([(columns, rows)] * 3)
    weights = {f"p{n}": (lambda ref, place=place: ref["p0"].chunk(3)[place].T) for n, place in enumerate(order)}
    found = match_weights(left, right, (), weights=weights)
    gradients = {name: torch.randn_like(p) for name, p in right.named_parameters()}
    back = scattered(found, gradients, dict(left.named_parameters()))
    for key, gradient in gradients.items():
        assert torch.equal(found.matches[key].gather(back), gradient)


@pytest.mark.parametrize(("parts", "says"), [((0, 0), "several weights of the candidate"), ((0,), "a part of p0 only")])
def test_gradients_that_do_not_say_the_reference_s_are_refused(parts, says):
    left, right = Split([(4, 2)]), Split([(2, 2)] * len(parts))
    weights = {f"p{n}": (lambda ref, place=place: ref["p0"].chunk(2)[place]) for n, place in enumerate(parts)}
    found = match_weights(left, right, (), weights=weights)
    gradients = {name: torch.ones_like(p) for name, p in right.named_parameters()}
    with pytest.raises(ValueError, match=says):
        scattered(found, gradients, dict(left.named_parameters()))


def test_the_audit_leaves_both_sides_as_after_one_step():
    left = Near(1e-8)
    alone, right = copy.deepcopy(left), Near(2e-8)
    update_of(left, right, torch.optim.Adam)
    optimizer = torch.optim.Adam(alone.parameters(), lr=1e-3)
    alone(X).backward()
    optimizer.step()
    assert torch.equal(alone.weight, left.weight)
