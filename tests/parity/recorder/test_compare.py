"""`parity compare`: recordings against one another, with words, exit codes, and the first divergence by call order."""

import json

import pytest
import torch
from parity_recorder import Recorder
from torch import nn
from typer.testing import CliRunner

from parity.__main__ import app
from parity.compare_structure import _optimizers
from parity.schema import read_results
from parity.verdict import Verdict
from tests.parity.recorder import outside


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    outside.record(folder / "old")
    outside.record(folder / "same")
    outside.record(folder / "bug", eps=1.1e-5)
    outside.record(folder / "renamed", build=renamed)
    return folder


class Renamed(nn.Module):
    """The same network under other names."""

    def __init__(self):
        super().__init__()
        inner = outside.Mixer()
        self.stem, self.scale, self.relu = inner.embed, inner.norm, inner.act
        self.mix, self.out = inner.block, Out(inner.heads)

    def forward(self, x):
        x = self.relu(self.scale(self.stem(x))).transpose(1, 2)
        return self.out(self.mix(self.mix(x)).mean(1))


class Out(nn.Module):
    def __init__(self, heads):
        super().__init__()
        self.a, self.b, self.spare = heads.left, heads.right, heads.unused

    def forward(self, x):
        return self.a(x), {"right": self.b(x).to(torch.bfloat16)}


def renamed(eps):
    model = Renamed()
    return model, torch.optim.Adam(model.parameters(), lr=1e-2)


def compare(*arguments, out):
    ran = CliRunner().invoke(app, ["compare", *map(str, arguments), "--out", str(out)])
    results = read_results(out / "results.json") if (out / "results.json").exists() else None
    return ran, results


def test_equal_recordings_are_the_same(recordings, tmp_path):
    ran, results = compare(recordings / "old", recordings / "same", out=tmp_path)
    assert ran.exit_code == 0, ran.output
    assert results.answer == "Yes: all 162 tensors are the same bytes."
    assert "random states: equal at every recorded moment" in ran.output
    assert "162 tensors are the same bytes" in (tmp_path / "report.html").read_text()


def test_a_difference_without_a_floor_cannot_be_told(recordings, tmp_path):
    ran, results = compare(recordings / "old", recordings / "bug", out=tmp_path)
    assert ran.exit_code == 2
    assert results.divergence.id == "recording/model.norm/out", "by call order, not by name or size"
    assert results.divergence.verdict is Verdict.MISSING
    assert results.answer.startswith("Cannot tell")


def test_a_measured_floor_makes_it_a_drift_and_can_be_kept(recordings, tmp_path):
    floors = tmp_path / "floors.json"
    arguments = recordings / "old", recordings / "bug", "--noise", recordings / "same", "--keep", floors
    ran, results = compare(*arguments, out=tmp_path)
    assert ran.exit_code == 1
    assert results.answer.startswith("No: the candidate departs at model.norm/out")
    again, stored = compare(*arguments[:2], "--floors", floors, out=tmp_path / "again")
    assert again.exit_code == 1
    assert stored.answer == results.answer
    more, wider = compare(*arguments[:2], "--floors", floors, "--noise", recordings / "bug", out=tmp_path / "wider")
    assert more.exit_code == 0, "the floor is the largest of all, stored ones too"
    assert "The floor rests on 2 noise recordings." in wider.answer
    both = compare(*arguments[:2], "--noise", recordings / "bug", "--noise", recordings / "same", out=tmp_path / "two")
    assert both[0].exit_code == 0, "a quieter recording does not lower it"


def test_what_lies_within_the_floor_is_rounding(recordings, tmp_path):
    """The bug itself taken as noise: a floor is believed, wherever it comes from, and the report names it."""
    ran, results = compare(recordings / "old", recordings / "bug", "--noise", recordings / "bug", out=tmp_path)
    assert ran.exit_code == 0
    assert results.answer.startswith("Yes, up to rounding")
    assert results.floor["source"] == "1 repetition of the reference"
    assert "rests on 1 noise recording, which is one draw of chance" in results.answer


def test_a_renamed_network_is_matched_by_structure_and_told_so(recordings, tmp_path):
    arguments = recordings / "old", recordings / "renamed"
    ran, results = compare(*arguments, out=tmp_path / "unmapped")
    assert ran.exit_code == 2, "a module that is never called has no place in the order of calls"
    assert "Unmatched: 6 tensors of the reference, 6 of the candidate" in results.answer
    (tmp_path / "map.yml").write_text("model.heads.unused: model.out.spare\n")
    ran, results = compare(*arguments, "--map", tmp_path / "map.yml", out=tmp_path)
    assert ran.exit_code == 0, results.answer
    detail = next(finding.detail for finding in results.structure if finding.name == "matched")
    assert "by structure" in detail
    row = next(row for row in results.rows if row.id == "recording/gradients/model.embed.weight")
    assert row.reason == "same bytes; structural match with gradients/model.stem.weight"


def test_other_losses_need_a_map(tmp_path):
    for folder, names in (("a", ("photo", "lmk")), ("b", ("one", "two"))):
        with Recorder(tmp_path / folder) as recorder:
            for value, name in enumerate(names):
                recorder.loss(name, torch.tensor(float(value)))
    ran, results = compare(tmp_path / "a", tmp_path / "b", out=tmp_path / "out")
    assert ran.exit_code == 2
    assert any(finding.name == "ambiguous" for finding in results.structure)
    assert "Cannot tell" in results.answer
    (tmp_path / "map.yml").write_text(json.dumps({"losses/photo": "losses/one", "losses/lmk": "losses/two"}))
    told, results = compare(tmp_path / "a", tmp_path / "b", "--map", tmp_path / "map.yml", out=tmp_path / "told")
    assert told.exit_code == 0, results.answer


def test_what_one_side_lacks_is_missing_unless_left_out_on_purpose(recordings, tmp_path):
    outside.record(tmp_path / "few", keep=("forward", "loss"))
    ran, results = compare(recordings / "old", tmp_path / "few", out=tmp_path / "strict")
    assert ran.exit_code == 2
    assert "not all was matched (only in the reference)" in results.answer
    assert results.answer.endswith(
        f"Unmatched: {162 - len(results.rows)} tensors of the reference, 0 of the candidate."
    )
    ran, results = compare(recordings / "old", tmp_path / "few", "--partial", out=tmp_path / "partial")
    assert ran.exit_code == 0
    assert "left out as asked" in results.answer


def test_other_settings_are_not_the_same(recordings, tmp_path):
    def slower(eps):
        model = outside.Mixer(eps)
        return model, torch.optim.Adam(model.parameters(), lr=1e-2, betas=(0.5, 0.999))

    outside.record(tmp_path / "slower", build=slower, keep=("initial", "loss"))
    ran, results = compare(recordings / "old", tmp_path / "slower", "--partial", out=tmp_path / "out")
    finding = next(finding for finding in results.structure if finding.name == "optimizers")
    assert finding.detail == "adam group 0 betas: [0.9, 0.999] became [0.5, 0.999]"
    assert ran.exit_code != 0


class Bare(nn.Module):
    """Two bare parameters, which no module's name speaks for."""

    def __init__(self, first, second, order):
        super().__init__()
        for name in order:
            value = torch.arange(6.0).reshape(3, 2) / 7
            setattr(self, name, nn.Parameter(value if name == first else value.t().contiguous()))
        self._names = first, second

    def forward(self, x):
        first, second = (getattr(self, name) for name in self._names)
        return x @ second.t() @ first.t()


def bare(folder, first, second, order, **groups):
    with Recorder(folder, seed=0) as recorder:
        model = Bare(first, second, order)
        settings = {"lr": 1e-3, **groups}
        adam = torch.optim.AdamW([{"params": list(model.parameters()), **settings}], lr=1e-3)
        recorder.watch(model=model, adam=adam)
        recorder.loss("total", model(torch.ones(1, 3)).sum()).backward()
        adam.step()
        recorder.step()


def settings_of(results):
    return next(finding for finding in results.structure if finding.name == "optimizers")


def test_bare_parameters_need_one_line_each_and_their_order_is_no_drift(tmp_path):
    bare(tmp_path / "a", "P", "Q", order=("P", "Q"))
    bare(tmp_path / "b", "up", "down", order=("down", "up"))
    ran, results = compare(tmp_path / "a", tmp_path / "b", out=tmp_path / "unmapped")
    assert ran.exit_code == 2
    assert not [row for row in results.rows if "model.P" in row.tensor], "a shape alone is no match"
    details = [finding.detail for finding in results.structure if finding.name == "ambiguous"]
    assert any(detail.endswith('no proof; the line "model.P": "model.up" of --map pairs them') for detail in details)
    (tmp_path / "map.yml").write_text("model.P: model.up\nmodel.Q: model.down\n")
    ran, results = compare(tmp_path / "a", tmp_path / "b", "--map", tmp_path / "map.yml", out=tmp_path / "mapped")
    assert ran.exit_code == 0, results.answer
    assert settings_of(results).verdict is Verdict.IDENTICAL
    assert settings_of(results).detail == "equal; adam group 0 holds its parameters in another order"
    (tmp_path / "none.yml").write_text("model.P: null\nmodel.Q: null\n")
    arguments = tmp_path / "a", tmp_path / "b", "--partial", "--map", tmp_path / "none.yml"
    ran, results = compare(*arguments, out=tmp_path / "none")
    assert ran.exit_code == 0, results.answer
    assert any(skipped["why"] == "the map gives it no counterpart" for skipped in results.skipped)
    assert "left out as asked" in results.answer


def test_other_settings_or_members_of_renamed_groups_are_drift(tmp_path):
    bare(tmp_path / "a", "P", "Q", order=("P", "Q"))
    bare(tmp_path / "b", "up", "down", order=("down", "up"), weight_decay=0.5)
    (tmp_path / "map.yml").write_text("model.P: model.up\nmodel.Q: model.down\n")
    _, results = compare(tmp_path / "a", tmp_path / "b", "--map", tmp_path / "map.yml", out=tmp_path / "out")
    assert settings_of(results).verdict is Verdict.DRIFT
    assert settings_of(results).detail.startswith("adam group 0 weight_decay: 0.01 became 0.5")


def optimizers(*groups):
    return {"adam": {"class": "Adam", "groups": [{"lr": lr, "params": list(names)} for lr, names in groups]}}


@pytest.mark.parametrize(
    ("theirs", "detail"),
    [
        ([(0.1, "ab"), (0.2, "cd")], "equal"),
        ([(0.2, "dc"), (0.1, "ab")], "equal; adam group 1 holds its parameters in another order"),
        ([(0.1, "abc"), (0.2, "d")], "adam group 0 holds c on one side only; adam group 1 holds c on one side only"),
        ([(0.1, "ab"), (0.2, "c")], "adam group 1 holds d on one side only"),
        ([(0.1, "ab"), (0.3, "cd")], "adam group 1 lr: 0.2 became 0.3"),
        ([(0.1, "ab"), (0.2, "cdx")], "equal; adam: not compared, for they have no counterpart: x"),
        ([(0.1, "ab")], "adam group 1 holds c on one side only; adam group 1 holds d on one side only"),
    ],
)
def test_groups_are_compared_by_their_members(theirs, detail):
    found = _optimizers(optimizers((0.1, "ab"), (0.2, "cd")), optimizers(*theirs), set("abcd"))
    assert found.detail == detail
    assert (found.verdict is Verdict.DRIFT) is not detail.startswith("equal")


def test_a_noise_recording_is_no_side(recordings, tmp_path):
    outside.record(tmp_path / "noise", ulp=1)
    ran, _ = compare(recordings / "old", tmp_path / "noise", out=tmp_path / "out")
    assert "is noise for --noise" in str(ran.exception)


@pytest.mark.parametrize("side", ["nowhere", "modern:nothing"])
def test_no_such_side(side, recordings, tmp_path):
    ran, _ = compare(recordings / "old", side, out=tmp_path)
    assert isinstance(ran.exception, ValueError)


def test_the_answer_of_a_drift_names_settings_that_differ(recordings, tmp_path):
    def decayed(eps):
        model, _ = outside.build(eps)
        return model, torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=0.1)

    outside.record(tmp_path / "decayed", build=decayed)
    arguments = recordings / "old", tmp_path / "decayed", "--noise", recordings / "same"
    ran, results = compare(*arguments, out=tmp_path / "out")
    assert ran.exit_code == 1
    assert "No: the candidate departs at" in results.answer
    assert "Optimizers: adam group 0 weight_decay: 0 became 0.1." in results.answer
