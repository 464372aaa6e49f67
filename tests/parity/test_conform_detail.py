"""The detail recipe against a subject made of names, its inputs against recorded digests, and the real subjects."""

import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from parity import conform_detail_head, conform_detail_inputs, conform_detail_runs
from parity.conform import RECIPES, check_folder, check_subject
from parity.conform_detail_table import RUNS
from parity.conform_material import load_folder
from parity.conform_print import print_report
from parity.conform_report import ConformReport, Outcome, SubjectReport, Vector
from parity.conform_summary import common_disagreements, summarised
from parity.coverage import ConformError
from tests.parity.fake_detail import BUNDLED, FakeDetail, record


@pytest.fixture(scope="module")
def head():
    from modern.assets import load_head
    from parity.worker import HEAD

    return load_head(HEAD)


@pytest.fixture(scope="module")
def held_back(tmp_path_factory, head):
    """Recorded with another head than the generator's, which takes the better part of a minute to make."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conform_detail_runs, "recorded_head", lambda material: head)
        patch.setattr(conform_detail_inputs, "_vgg19_shapes", lambda: {"0.weight": ([2, 3, 3, 3], "float32")})
        yield record(tmp_path_factory.mktemp("detail") / "other", "held-back/")


def outcomes(report, outcome):
    return {vector.name for vector in report.vectors if vector.outcome is outcome}


def modern(setup, **changes):
    return FakeDetail(setup, name="modern", **changes)


@pytest.fixture(scope="module")
def reports(held_back):
    return {
        "legacy": check_subject(held_back, "legacy", build=FakeDetail),
        "modern": check_subject(held_back, "modern", build=modern),
    }


def test_every_vector_of_another_folder_is_computed(reports):
    for subject, report in reports.items():
        assert report.problem == ""
        assert not outcomes(report, Outcome.NOT_COMPUTED), subject
        assert not outcomes(report, Outcome.NOT_ASKED), subject
        assert not outcomes(report, Outcome.DISAGREES), subject
        assert report.exit_code == 0
    recorded = load_file(BUNDLED / "vectors_detail.safetensors").keys()
    assert recorded <= {vector.name for vector in reports["legacy"].vectors}
    assert not outcomes(reports["legacy"], Outcome.KNOWN)


def test_what_only_legacy_meets_is_known_of_modern_with_its_reason(reports):
    known = {vector.name: vector.note for vector in reports["modern"].vectors if vector.outcome is Outcome.KNOWN}
    leaked = [name for name in known if "grad_slice/after_D_backward" in name]
    assert len(leaked) == 4 * 36
    assert all(known[name].startswith("D29: ") for name in leaked)
    assert known["step_synth/step1/AUNet/backbone.bn1.running_mean"].startswith("D36: ")
    assert known["json/step_synth/calls/AUNet"].startswith("D36: ")
    assert known["json/step_synth/other_grads/ACG"].startswith("D40: ")
    assert known["json/step_synth/optimizers/D/tensors"].startswith("D51: ")
    assert known["modules/TDC/body_out"].startswith("spec 2.7: ")


def test_a_registered_discrepancy_that_vanished_is_found(held_back):
    report = check_subject(held_back, "modern", build=FakeDetail)  # behaves like legacy throughout
    stale = {vector.name for vector in report.vectors if "registered as" in vector.note}
    assert report.exit_code == 1
    assert stale == outcomes(report, Outcome.DISAGREES)
    assert {
        "modules/TDC/body_out",
        "json/step_assets/calls/E_detail",
        "step_synth/step0/AUNet/backbone.bn1.running_mean",
    } <= stale
    assert any("grad_slice/after_D_backward/E_detail" in name for name in stale)


DEPARTURES = {  # what is altered: by how much, and where that must show
    "generator/uv_z": (1e-2, r"^step_.*/(strided8|sample0)/uv_z$|json/.*/stats/uv_z/"),
    "losses/z_sym": (1e-2, r"^step_[^/]*/loss/z_sym$|json/.*/losses/0/z_sym$"),
    "losses/z_reg@1": (1e-2, r"^json/.*/losses/1/z_reg$"),
    "g_losses/adv_G": (1e-2, r"^json/.*/losses/0/adv_G$"),
    "displacement/uv_detail_normals": (1e-1, r"/uv_detail_normals(/l2_per_sample)?$"),
    "ACG:eval cl": (1e-2, r"^modules/ACG/eval/cl$"),
    "g_gradients/E_detail/conv8.weight": (
        1.0,
        r"after_G_backward/E_detail/conv8.weight$|grads/0/after_G_backward/E_detail$",
    ),
    "g_adam/parameter/D_detail/lin.bias@1": (1e-3, r"weights_after_step1/D_detail/lin.bias$"),
    "buffers/ACG/backbone.bn1.running_mean@1": (1e-2, r"step1/ACG/backbone.bn1.running_mean$"),
}


def test_departures_are_found_under_their_own_names(held_back):
    spoil = {name: amount for name, (amount, _) in DEPARTURES.items()}
    report = check_subject(held_back, "modern", build=lambda setup: modern(setup, spoil=spoil))
    wrong = outcomes(report, Outcome.DISAGREES)
    judged = {vector.name for vector in report.vectors if vector.outcome in (Outcome.AGREES, Outcome.DISAGREES)}
    assert report.exit_code == 1
    for _, found in DEPARTURES.values():
        assert {name for name in judged if re.search(found, name)} & wrong
    assert wrong == {name for name in judged if any(re.search(found, name) for _, found in DEPARTURES.values())}


def test_a_departure_within_the_bound_is_none(held_back):
    small = {"losses/z_sym": 1e-6, "displacement/uv_detail_normals": 1e-5, "g_adam/parameter/D_detail/lin.bias": 5e-6}
    report = check_subject(held_back, "modern", build=lambda setup: modern(setup, spoil=small))
    assert report.exit_code == 0
    assert not all(vector.bitwise for vector in report.vectors if vector.outcome is Outcome.AGREES)


def test_what_a_subject_does_not_yield_is_not_computed(held_back):
    lost = frozenset({"texture/albedo", "d_gradients/l1.weight"})
    report = check_subject(held_back, "modern", build=lambda setup: modern(setup, lost=lost))
    missing = outcomes(report, Outcome.NOT_COMPUTED)
    assert report.exit_code == 2
    assert "step_assets/sample0/albedo" in missing
    assert "step_synth/weights_after_step0/D/l1.weight" in missing  # nothing shows that it had no gradient
    assert all(re.search(r"albedo|l1\.weight|without_gradient", name) for name in missing)


def test_a_missing_replay_is_not_computed(held_back):
    class WithoutReplays(FakeDetail):
        def replay(self, stage, inputs):
            raise KeyError(stage)

    report = check_subject(held_back, "legacy", build=WithoutReplays)
    missing = outcomes(report, Outcome.NOT_COMPUTED)
    assert {"modules/E_detail/out_224", "step_synth/loss/mrf_unweighted", "modules/TDC/body_out"} <= missing
    assert any("by_loss" in name for name in missing)
    assert report.exit_code == 2


def test_another_prefix_is_another_recording(held_back, tmp_path):
    folder = Path(shutil.copytree(held_back, tmp_path / "renamed"))
    document = json.loads((folder / "vectors_detail.json").read_text()) | {"seed_prefix": "something else/"}
    (folder / "vectors_detail.json").write_text(json.dumps(document))
    report = check_subject(folder, "modern", build=modern)
    same = {name for name in outcomes(report, Outcome.AGREES) if not name.startswith("json/")}
    inputs_without_names = r"masks_u8|l1\.bias|fixed_uv_dis|uv_face_eye_mask|zero_influence_columns"
    assert report.exit_code == 1
    assert not {name for name in same if not re.search(inputs_without_names, name)}


def test_runs_follow_the_readme(held_back):
    setups, plans = {}, []

    class Watched(FakeDetail):
        def trace(self, batch, plan):
            plans.append((plan.steps, dict(self.setup.overrides), self.setup.surface is None))
            setups[len(plans)] = self.setup
            return super().trace(batch, plan)

    check_subject(held_back, "legacy", build=Watched)
    balanced = {"loss.reg_sym": 5e-6}
    assert plans == [(2, {}, False), (1, balanced, False), (1, balanced, False), (2, {}, True)]
    assert [run.steps for run in RUNS.values()] == [plan[0] for plan in plans]
    usual, small = (setups[index].weights["D_detail"] for index in (1, 2))
    for key, value in usual.items():
        edited = key in ("model.32.weight", "model.32.bias")
        assert torch.equal(small[key], value / 128 if edited else value)
    assert not setups[1].parameters_B236[:, 150:200].any()  # the encoder's own expression must not be used
    assert setups[1].expression_B50.abs().max() > 0.5


def test_inputs_have_the_recorded_digests():
    vectors = load_folder(BUNDLED, RECIPES)
    material, document = vectors.material, vectors.document
    surface = conform_detail_inputs.synthetic_surface(material)
    names = {"uv_coarse_vertices": "uv_vertices", "uv_coarse_normals": "uv_normals", "uv_pverts": "uv_projected"}
    names |= {"uv_pnorm": "uv_projected_normals"}
    found = {name: getattr(surface, names.get(name, name), None) for name in document["synth_inputs"]}
    digests = {name: entry["sha256"] for name, entry in document["synth_inputs"].items() if name != "alpha_images"}
    found |= {f"images_{size}": conform_detail_inputs.images(material, size) for size in (224, 256)}
    digests |= {f"images_{size}": document["inputs"][f"images_{size}"] for size in (224, 256)}
    assert {name: digest(found[name]) for name in digests} == digests
    codes = conform_detail_inputs.codes(material)
    assert all(torch.equal(codes[name], vectors.recorded[f"step_synth/codes/{name}"]) for name in codes)
    masks = vectors.recorded["step_assets/masks_u8"][:, 0].float()
    assert torch.equal(conform_detail_inputs.face_masks(), masks)


def digest(tensor):
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()


def test_threads_are_those_of_the_recording(reports):
    assert load_folder(BUNDLED, RECIPES).threads == 2
    assert reports["legacy"].switches["threads"] == "1"  # as the made one says


def test_a_recipe_sees_no_expected_value():
    material = load_folder(BUNDLED, RECIPES).material
    assert not material.given
    assert not hasattr(material, "document")


def test_only_the_known_generator_is_executed(held_back, tmp_path):
    material = replace(load_folder(held_back, RECIPES).material, folder=tmp_path)
    (tmp_path / "head_generator.py").write_text("raise SystemExit('executed')\n")
    with pytest.raises(ConformError, match="is not executed"):
        conform_detail_head.recorded_head(material)
    shutil.copy(conform_detail_head.GENERATOR, tmp_path)
    assert digest_of(tmp_path / "head_generator.py") == conform_detail_head.GENERATOR_SHA256


def digest_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("seed", "readme", "expected"), [({}, "", 0), ({"head_seed": 3}, "`make(0)`", 3), ({}, "by `make(7)`, written", 7)]
)
def test_the_seed_of_the_head_comes_with_the_folder(held_back, tmp_path, seed, readme, expected):
    folder = Path(shutil.copytree(held_back, tmp_path / "seeded"))
    document = json.loads((folder / "vectors_detail.json").read_text()) | seed
    (folder / "vectors_detail.json").write_text(json.dumps(document))
    (folder / "README.md").write_text(readme)
    assert load_folder(folder, RECIPES).material.head_seed == expected


def test_a_json_without_its_figures_is_said(held_back, tmp_path):
    folder = Path(shutil.copytree(held_back, tmp_path / "broken"))
    document = json.loads((folder / "vectors_detail.json").read_text())
    del document["runs"]["step_synth"]["losses"]
    (folder / "vectors_detail.json").write_text(json.dumps(document))
    with pytest.raises(ConformError, match="unexpected content"):
        check_subject(folder, "modern", build=modern)
    assert check_folder(folder, "modern").exit_code == 2


def test_a_long_report_lists_what_stands_out_and_sums_up_the_rest(reports, capsys):
    groups = {group.name: group for group in summarised(reports["modern"].vectors)}
    assert groups["step_synth/grad_slice/after_D_backward"].counts[Outcome.KNOWN] == 36
    assert groups["modules/ACG/eval"].share == 0
    print_report(ConformReport(folder="other", device="cpu", subjects=(reports["modern"],)))
    printed = capsys.readouterr().out
    assert "modules/TDC/body_out" in printed
    assert "step_synth/strided8/uv_z" not in printed
    assert "step_synth/strided8 " in printed


def test_what_every_subject_misses_is_told_from_what_one_misses():
    def part(subject, **words):
        rows = tuple(Vector(name=name, outcome=word) for name, word in words.items())
        return SubjectReport(subject=subject, vectors=rows)

    parts = (
        part("legacy", a=Outcome.DISAGREES, b=Outcome.AGREES),
        part("modern", a=Outcome.DISAGREES, b=Outcome.DISAGREES),
    )
    told = common_disagreements(parts)
    assert told == "disagreements: 1 of every subject alike, 0 only of legacy, 1 only of modern"
    assert common_disagreements(parts[:1]) == ""


def part_of(folder, runs):
    """A copy of the bundled recording that holds some runs only."""
    folder.mkdir()
    for name in ("keys.json", "coverage.json", "README.md"):
        shutil.copy(BUNDLED / name, folder)
    document = json.loads((BUNDLED / "vectors_detail.json").read_text())
    document["runs"] = {run: facts for run, facts in document["runs"].items() if run in runs}
    document["stats"] = {name: facts for name, facts in document["stats"].items() if name.partition("/")[0] in runs}
    (folder / "vectors_detail.json").write_text(json.dumps(document))
    stored = load_file(BUNDLED / "vectors_detail.safetensors")
    kept = {name: tensor for name, tensor in stored.items() if name.partition("/")[0] in runs}
    save_file(kept, folder / "vectors_detail.safetensors")
    return folder


@pytest.mark.long
@pytest.mark.parametrize("subject", ["legacy", "modern"])
def test_real_subjects_meet_the_single_modules_and_a_step(tmp_path, subject):
    report = check_folder(part_of(tmp_path / "part", ("modules", "step_synth_small_z")), subject)
    print_report(report)
    (part,) = report.subjects
    assert not part.problem
    assert not outcomes(part, Outcome.NOT_COMPUTED)
    assert not outcomes(part, Outcome.DISAGREES)  # another processor's rounding leaves some undecided
    assert len(outcomes(part, Outcome.UNDECIDED)) < 30
