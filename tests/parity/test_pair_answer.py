"""What the answer of a pair blames: what belongs to the drift, in the order in which a step computes; no more."""

from types import SimpleNamespace

import pytest

from parity.held import decided, over_floor
from parity.pair.adapter import audit_adapter, load_adapter
from parity.pair.answer import lost_gradients, phase
from parity.pair.verdicts import judged
from parity.verdict import Verdict

PAIR = """
import torch
from torch import nn
from torch.nn import functional as F

class Old(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside, self.norm, self.out = nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x):
        h = self.norm(F.gelu(self.inside(x)))
        return self.out(h), h

class New(nn.Module):  # the linear layer written out: other operations, rounding from the start
    def __init__(self):
        super().__init__()
        self.inside, self.norm, self.out = nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x):
        h = self.norm(F.gelu((x[:, None] * self.inside.weight).sum(-1) + self.inside.bias))
        return self.out(h), h

def reference(): return Old().train()
def candidate(): return New().train()
def inputs(seed): return torch.randn(5, 6, generator=torch.Generator().manual_seed(seed))

def loss(outputs, inputs):
    y, h = outputs
    target = h.detach()
    return y.square().sum() + (h[:, 1:] - target[:, :-1]).square().sum()
"""


@pytest.fixture
def run(tmp_path):
    def run(old="", new="", draws=6):
        assert old in PAIR
        head, tail = PAIR.split("class New")
        changed = head + "class New" + tail.replace(old, new) if old else PAIR
        path = tmp_path / "pair.py"
        path.write_text(changed)
        audit = audit_adapter(load_adapter(path), draws=draws)
        return judged(audit, "pair", command="", scope={}, timings={})

    return run


def test_a_yes_blames_nobody_and_mentions_what_one_side_only_runs(run):
    results = run()
    assert results.exit_code == 0
    assert "First to depart" not in results.answer
    assert "stands out" not in results.answer
    assert "aten.sum at pair.py:" in results.answer
    assert not any(finding.name == "first departure" for finding in results.structure)


def test_an_extra_operation_that_changes_nothing_here_is_mentioned(run):
    results = run("return self.out(h), h", "return self.out(h), h.clamp(max=30)")
    assert results.exit_code == 0
    assert "aten.clamp at pair.py:" in results.answer


def test_behind_harmless_rounding_the_operation_of_the_bug_is_named(run):
    results = run("nn.Linear(6, 8), nn.LayerNorm(8)", "nn.Linear(6, 8), nn.LayerNorm(8, eps=1e-3)")
    assert results.exit_code == 1
    assert "First to depart: aten.native_layer_norm.default in norm" in results.answer
    assert "eps 0.001 instead of 1e-05" in results.answer


DETACH = (
    "    y, h = outputs\n    target = h.detach()\n",
    "    y, h, *other = outputs\n    target = h if other else h.detach()\n",
)


def test_a_loss_that_alone_keeps_the_graph_is_found_in_the_backward_pass(tmp_path):
    text = PAIR.replace(*DETACH).replace("return self.out(h), h\n\ndef", "return self.out(h), h, 1\n\ndef")
    path = tmp_path / "pair.py"
    path.write_text(text)
    results = judged(audit_adapter(load_adapter(path), draws=6), "pair", command="", scope={}, timings={})
    assert results.exit_code == 1
    assert "gradient" in results.first_divergence
    assert "backward" in results.answer
    assert "stops on the reference's side only: input 1 of aten.sub.Tensor (" in results.answer


def test_a_loss_that_drifts_comes_before_the_gradients_of_the_stages(tmp_path):
    text = PAIR.replace("    y, h = outputs\n", "    y, h, *other = outputs\n    y = y * (1.01 if other else 1)\n")
    path = tmp_path / "pair.py"
    path.write_text(text.replace("return self.out(h), h\n\ndef", "return self.out(h), h, 1\n\ndef"))
    results = judged(audit_adapter(load_adapter(path), draws=6), "pair", command="", scope={}, timings={})
    assert "departs from the reference at loss (loss)" in results.answer


FROZEN = "        self.out.bias.requires_grad_(False)\n\n    def forward(self, x):\n"


def test_a_gradient_that_one_side_only_has_is_the_headline(run):
    results = run("    def forward(self, x):\n", FROZEN)
    assert results.answer.startswith("No: only the reference has gradients/out.bias")


def test_a_stage_whose_module_is_never_called_is_not_reached(run):
    results = run()
    finding = next(finding for finding in results.structure if finding.name == "stage not reached, inside")
    assert finding.verdict is Verdict.NOT_EXERCISED
    assert "the candidate never calls its module" in finding.detail


def test_stages_come_in_the_order_of_the_step():
    keys = ["norm/out", "output/[0]", "buffers/mean", "loss/loss", "norm/gradient of out", "gradients/a", "update/a"]
    assert [phase(key) for key in keys] == list(range(len(keys)))


def test_the_figures_beside_a_verdict_are_those_that_decided(run):
    for row in run("nn.LayerNorm(8)", "nn.LayerNorm(8, eps=1.2e-5)").rows:
        if row.bitwise or row.floor is None or row.structural or row.verdict is Verdict.NOT_EXERCISED:
            continue
        _, found, bound = decided(row, 5)
        assert (over_floor(row) > 5) == (row.verdict is Verdict.DRIFT) == (found > bound), row


TIED = """
import torch
from torch import nn

class Old(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(9, 4)

    def forward(self, x):
        return torch.tanh(self.embedding(x)) @ self.embedding.weight.T

class New(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(9, 4), nn.Linear(4, 9, bias=False)

    def forward(self, x):
        return self.head(torch.tanh(self.embedding(x)))

def reference(): return Old()
def candidate(): return New()
def inputs(seed): return torch.arange(6)
def loss(outputs, inputs): return outputs.square().sum()
WEIGHTS = {"head.weight": "embedding.weight"}
NAMES = {"embedding": "embedding"}
"""


def test_weights_that_the_candidate_does_not_tie_are_named(tmp_path):
    path = tmp_path / "tied.py"
    path.write_text(TIED)
    results = judged(audit_adapter(load_adapter(path), draws=4), "tied", command="", scope={}, timings={})
    assert results.exit_code == 1
    assert "several weights of the candidate, not tied: embedding.weight, head.weight" in results.answer


STOPS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x):
        x = torch.relu(self.a(x))
        y = torch.relu(self.b(x))
        return self.d(y + torch.relu(self.c(x)))

class Cut(Net):
    def forward(self, x):
        x = torch.relu(self.a(x))
        {change}

def reference(): return Net()
def candidate(): return Cut()
def inputs(seed): return torch.randn(4, 8, generator=torch.Generator().manual_seed(seed))
def loss(outputs, inputs): return outputs.square().mean()
"""


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ("return self.d(torch.relu(self.b(x)).detach() + torch.relu(self.c(x)))", "input 0 of aten.add.Tensor"),
        ("y = torch.relu(self.b(x)); return self.d(y + torch.relu(self.c(x.detach())))", "input 1 of aten.addmm"),
        ("y = torch.relu(self.b(x))\n        with torch.no_grad(): z = torch.relu(self.c(x))\n        "
         "return self.d(y + z)", "input 0 of aten.addmm.default in c"),
        ("return self.d(torch.relu(self.b(x)) + torch.relu(self.c(2 * x)))", ""),
    ],
)  # fmt: skip
def test_the_place_where_a_gradient_stops_is_named(tmp_path, change, where):
    path = tmp_path / "stops.py"
    path.write_text(STOPS.format(change=change))
    results = judged(audit_adapter(load_adapter(path), draws=3), "stops", command="", scope={}, timings={})
    assert results.exit_code == 1
    assert ("The gradient stops on the candidate's side only" in results.answer) == bool(where)
    assert where in results.answer


TIME_FIRST = """
import torch
from torch import nn

class Old(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside, self.norm = nn.Linear(6, 8), nn.BatchNorm1d(8)

    def forward(self, x):
        return self.norm(torch.relu(self.inside(x)).mean(1))

class New(Old):
    def forward(self, x):
        h = torch.relu(self.inside(x.transpose(0, 1))).transpose(0, 1)
        {branch}
        return self.norm(h.mean(1))

def reference(): return Old().train()
def candidate(): return New().train()
def inputs(seed): return torch.randn(5, 4, 6, generator=torch.Generator().manual_seed(seed))
def loss(outputs, inputs): return outputs.pow(4).sum()
"""


def audited(tmp_path, branch="pass", more=""):
    path = tmp_path / "turned.py"
    path.write_text(TIME_FIRST.format(branch=branch) + more)
    return judged(audit_adapter(load_adapter(path), draws=6), "turned", command="", scope={}, timings={})


def test_a_child_of_another_layout_is_set_aside_unless_it_was_asked_for(tmp_path):
    found = audited(tmp_path)
    assert found.exit_code == 0, found.answer
    aside = next(finding for finding in found.structure if finding.name == "stage set aside, inside")
    assert aside.verdict is Verdict.NOT_EXERCISED
    assert "shape [4, 5, 8] instead of [5, 4, 8]; name it in STAGES" in aside.detail
    assert audited(tmp_path, more='STAGES = {"inside": ("inside", "inside")}').exit_code == 1


def test_a_drift_of_buffers_alone_is_not_blamed_on_values_of_the_forward_pass(tmp_path):
    found = audited(tmp_path, branch="self.norm.num_batches_tracked += 1")
    assert found.exit_code == 1
    assert "at buffers (norm.num_batches_tracked)" in found.answer
    assert "First" not in found.answer


def test_weights_whose_gradient_one_side_lacks_are_named(tmp_path):
    found = audited(tmp_path, branch="with torch.no_grad(): h = h * 1")
    assert found.exit_code == 1
    assert "only the reference has gradients/inside.weight, gradients/inside.bias" in found.answer
    audit = SimpleNamespace(ran=SimpleNamespace(unpaired={"gradients/a.b": 0, "gradients/c": 1, "update/step of c": 1}))
    assert lost_gradients(audit) == "Only the reference has a gradient of a.b. Only the candidate has a gradient of c."
