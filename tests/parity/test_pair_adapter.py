"""The worked example as a user runs it, and what a user who gets something wrong is told."""

import shutil

import pytest
import torch
from typer.testing import CliRunner

from parity.__main__ import app
from parity.files import ROOT
from parity.pair.adapter import audit_adapter, load_adapter
from parity.pair.verdicts import judged
from parity.schema import read_results
from parity.verdict import Verdict

EXAMPLE = ROOT / "examples" / "tagger"


@pytest.fixture
def example(tmp_path):
    return shutil.copytree(EXAMPLE, tmp_path / "tagger")


def edit(folder, name, old, new):
    path = folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def results_of(folder, **given):
    audit = audit_adapter(load_adapter(folder / "adapter.py"), **given)
    return audit, judged(audit, "tagger", command="", scope={}, timings={})


def test_the_example_runs_from_the_command_line(tmp_path):
    done = CliRunner().invoke(app, ["pair", str(EXAMPLE / "adapter.py"), "--draws", "3", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    found = read_results(tmp_path / "results.json")
    assert found.verdict is Verdict.ROUNDING
    assert {"embedding", "block 0", "block 1", "tags", "gradients", "update"} <= {stage.name for stage in found.stages}
    assert (tmp_path / "report.html").exists()
    assert (tmp_path / "junit.xml").exists()


def test_every_weight_says_which_pass_matched_it(example):
    audit, _ = results_of(example, draws=0)
    how = {key: match.how for key, match in audit.weights.matches.items()}
    assert how["blocks.0.attention.query.weight"] == "manual"
    assert how["blocks.1.mlp.1.weight"] == "structural"
    assert audit.weights.matches["classifier.weight"].reference == ("out.weight",)
    assert not audit.weights.only_candidate
    assert not audit.weights.only_reference


@pytest.mark.parametrize(
    ("old", "new", "stage"),
    [
        ("x = x + self.attention(self.norm_attention(x))", "x = x + self.attention(x)", "block 0"),
        ("return x + self.mlp(x)", "return x + 1.0001 * self.mlp(x)", "block 0"),
        ("x = self.embedding(tokens)", "x = self.embedding(tokens.flip(1))", "embedding"),
    ],
)
def test_a_planted_bug_drifts_at_its_stage(example, old, new, stage):
    edit(example, "new_tagger.py", old, new)
    _, results = results_of(example, draws=4)
    assert results.exit_code == 1
    assert next(row for row in results.rows if row.verdict is Verdict.DRIFT).stage == stage


def test_another_optimizer_is_seen_in_the_update_only(example):
    edit(example, "adapter.py", "lr=1e-3)", "lr=1e-3, eps=1e-8 if type(model).__name__ == 'Tagger' else 1e-6)")
    _, results = results_of(example, draws=4)
    assert {row.stage for row in results.rows if row.verdict is Verdict.DRIFT} == {"update"}


def test_twins_without_names_are_refused_with_what_to_write(example):
    edit(example, "adapter.py", "WEIGHTS = {", "UNUSED = {")
    with pytest.raises(ValueError, match=r"(?s)blocks.0.attention.query.weight.*still free in the reference.*NAMES"):
        results_of(example)


def test_without_floors_a_difference_is_no_verdict(example):
    _, results = results_of(example, draws=0)
    assert results.verdict is Verdict.MISSING
    assert results.exit_code == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"no function reference\(\)"),
        ("reference = candidate = 3\n", "must be a function"),
        ("import nothing_like_that\n", "does not run: ModuleNotFoundError"),
        ("def reference(): ...\ndef candidate(): ...\ndef inputs(): ...\n", r"called as inputs\(seed\)"),
        ("def reference(): return 1\ndef candidate(): ...\ndef inputs(seed): return 1\n", "returned int, not a torch"),
        (
            "from torch import nn\ndef reference(): return nn.ReLU()\n"
            "candidate = reference\ndef inputs(seed): return 1\n",
            "without any tensor",
        ),
        ("def reference(): ...\ndef candidate(): ...\ndef inputs(seed): ...\nNAME = {}\n", "NAME is not read"),
        (
            "def reference(): ...\ndef candidate(): ...\ndef inputs(seed): ...\ndef optimizer(model): ...\n",
            r"optimizer\(model\) without loss",
        ),
        (
            "def reference(): ...\ndef candidate(): ...\ndef inputs(seed): ...\ndef optimiser(model): ...\n",
            r"optimiser is not read; did you mean optimizer\?",
        ),
        (
            "import torch\nfrom torch import nn\ndef reference(): return nn.Linear(2, 2)\ncandidate = reference\n"
            "def inputs(seed): return torch.ones(3, 2)\ndef loss(outputs, inputs): return outputs\n",
            r"loss\(outputs, inputs\) returned a tensor of shape \[3, 2\]; it must return one number",
        ),
    ],
)
def test_a_bad_adapter_says_what_is_wrong(tmp_path, text, says):
    path = tmp_path / "bad.py"
    path.write_text(text)
    with pytest.raises(ValueError, match=says):
        audit_adapter(load_adapter(path))


def test_a_candidate_of_another_signature_is_told_in_one_line(example):
    edit(example, "adapter.py", "    return torch.randint", "    return {'tokens': torch.randint")
    edit(example, "adapter.py", "generator=generator)", "generator=generator)}")
    edit(example, "adapter.py", "inputs.flatten()", "inputs['tokens'].flatten()")
    results_of(example, draws=0)  # as a dict of arguments it works
    edit(example, "new_tagger.py", "def forward(self, tokens: Tensor)", "def forward(self, words: Tensor)")
    edit(example, "new_tagger.py", "self.embedding(tokens)", "self.embedding(words)")
    says = "the candidate does not take arguments tokens: .*say .* candidate_inputs"
    with pytest.raises(ValueError, match=says) as told:
        results_of(example)
    assert "\n" not in str(told.value)


def test_a_missing_file_and_a_wrong_stage_are_named(tmp_path, example):
    with pytest.raises(ValueError, match="no such file"):
        load_adapter(tmp_path / "nowhere.py")
    edit(example, "adapter.py", '"tags": ("out", "classifier")', '"tags": ("out", "clasifier")')
    with pytest.raises(ValueError, match=r"STAGES\['tags'\]: the candidate has no module 'clasifier'"):
        results_of(example)


def test_operations_run_in_order_are_judged_one_by_one(tmp_path):
    path = tmp_path / "adapter.py"
    path.write_text(
        "import torch\nfrom torch import nn\n"
        "def reference(): return nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 2))\n"
        "def candidate(): return nn.Sequential(nn.Linear(4, 4), nn.GELU(approximate='tanh'), nn.Linear(4, 2))\n"
        "def inputs(seed): return torch.ones(3, 4)\n"
        "def loss(outputs, inputs): return outputs.sum()\n"
    )
    audit = audit_adapter(load_adapter(path), draws=4)
    results = judged(audit, "gelu", command="", scope={}, timings={})
    assert audit.ran.in_order
    assert results.exit_code == 1
    assert "aten.gelu" in results.first_divergence
    assert "approximate 'tanh' instead of" in results.answer
    assert torch.is_grad_enabled()
