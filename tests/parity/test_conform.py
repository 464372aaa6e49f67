"""Conformance: the recipes against a subject made of names, damaged folders, the metrics, and the real subjects."""

import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fixtures import seeded
from parity.conform import RECIPES, check_folder, check_subject
from parity.conform_coarse import CoarseRecipe
from parity.conform_material import load_folder
from parity.conform_print import print_report
from parity.conform_report import ConformReport, Outcome, SubjectReport, Vector, as_json
from parity.environment import isolated_numerics
from parity.trace import Trace

BUNDLED = Path(__file__).parents[2] / "fixtures" / "conformance"
CODES = {"shape": (1, 100), "tex": (1, 50), "exp": (1, 50), "pose": (1, 6), "cam": (1, 3), "light": (1, 9, 3)}
MESH = {"landmarks2d": (68, 3), "landmarks3d": (68, 3), "landmarks_dense": (105, 3), "vertices": (5023, 3)}
PICTURES = ("attributes/normal_images", "shading/shading_images", "rendering/albedo_images", "rendering/images")
TENSORS = {
    "encoder/parameters": (3, 236),
    "encoder/global_feature": (3, 2048),
    "action_units/tokens": (3, 49, 512),
    "action_units/afn": (3, 27, 512),
    "sequence/out": (1, 127),
    "prediction/out": (1, 127),
    **{f"{book}/{code}": shape for book in ("codes", "deca_codes") for code, shape in CODES.items()},
    **{f"flame/{name}": (1, *shape) for name, shape in MESH.items()},
    "texture/albedo": (1, 3, 256, 256),
    "projection/vertices": (1, 5023, 3),
    "projection/landmarks2d": (1, 68, 2),
    "projection/landmarks3d": (1, 68, 3),
    "projection/landmarks_dense": (1, 105, 2),
    "normals/normals": (1, 5023, 3),
    "normals/projected_normals": (1, 5023, 3),
    "raster/barycentric": (224, 224, 3),
    "attributes/grid": (1, 224, 224, 2),
    "attributes/face_region": (1, 1, 224, 224),
    **dict.fromkeys(PICTURES, (1, 3, 224, 224)),
    "features/afn_rendered": (1, 27, 512),
    "features/emotion_rendered": (1, 2048),
}
EXTRAS = {
    "landmark_col2_after": (3, 68),
    "landmark_dense_col2_after": (3, 105),
    "landmarks3d_world": (1, 68, 3),
    "predicted_images": (1, 3, 224, 224),
}
REPLAYS = {
    "au_graph": {"cl": (3, 41)},
    "au_classifier": {"cl": (3, 41), "nodes": (3, 27, 512), "tokens": (3, 49, 512)},
    "expression": {"features": (3, 2048)},
    "prediction": {"out": (1, 127)},
    "flame": {name: (4, *shape) for name, shape in MESH.items()},
    "shape_render": {"full": (1, 3, 224, 224), "face": (1, 3, 224, 224)},
    "visualisation": {"landmarks3d_vis": (1, 68, 4), "render_images": (1, 3, 224, 224)},
}
TERMS = sorted(
    {
        name.split("/")[-1]
        for name in json.loads((BUNDLED / "coarse/vectors_coarse.json").read_text())["alt_focal"]["order"]
    }
)


@dataclass
class Fake:
    """Answers every question with numbers drawn from its name, its setup and its inputs."""

    setup: object
    spoil: dict = field(default_factory=dict)
    lost: frozenset = frozenset()
    name: str = "modern"

    def draw(self, name, shape):
        setting = f"{self.setup.dropout} {sorted(self.setup.overrides.items())}"
        values = (
            seeded.uniform(name, shape, -1, 1, prefix=setting) * self.setup.weights["BiViT"]["vit.mlp_head.bias"][0]
        )
        return values + self.setup.head.v_template.abs().max() + self.spoil.get(name, 0.0)

    def trace(self, batch, plan):
        trace = Trace(subject=self.name)
        values = {name: self.draw(name, shape) + batch.landmark[0, 0, 0] for name, shape in TENSORS.items()}
        terms = [*TERMS, "all_loss"]
        values |= {f"losses/{term}": self.draw(f"losses/{term}", ()) for term in terms}
        values |= {f"code_gradients/{term}": self.draw(f"code_gradients/{term}", (1, 127)) for term in terms}
        values["raster/face_ids"] = (self.draw("raster/face_ids", (224, 224)).abs() * 1e4).long()
        values["attributes/alpha_images"] = (values["attributes/face_region"] > 0).float()
        values["attributes/pos_mask"] = (values["attributes/face_region"] > 0.1).float()
        for key, value in self.setup.weights["BiViT"].items():
            values[f"gradients/{key}"] = value * 0.1 + self.spoil.get(f"gradients/{key}", 0.0)
            values[f"adam/parameter/{key}"] = value - 1e-4 * value.sign()
        trace.tensors = {key: value for key, value in values.items() if key not in self.lost}
        trace.extras = {name: self.draw(name, shape) for name, shape in EXTRAS.items()}
        trace.extras["dropout_masks"] = (self.draw("dropout_masks", (63968,)) > 0).to(torch.uint8)
        return trace

    def replay(self, stage, inputs):
        if stage == "shading":
            normal, light = inputs["normal_images"].flatten(), inputs["light"][0, :, 0]
            basis = harmonics(normal) * torch.arange(1.0, 10.0)
            return {"shading_images": ((basis * light).sum() + self.spoil.get("shading", 0.0)).expand(1, 3, 1, 1)}
        if stage == "gradients":
            scale = inputs["cotangent"].mean() * inputs["afn"].mean()
            return {key: value * scale for key, value in self.setup.weights["BiViT"].items()}
        if stage.startswith("loss_function:"):
            used = inputs["pred105"].mean() + inputs["gt68"].mean() * inputs["au"].mean() + inputs["gt105"].mean()
            return {"value": used + self.spoil.get(stage, 0.0)}
        mean = sum(tensor.mean() for tensor in inputs.values())
        return {key: self.draw(f"{stage} {key}", shape) + mean for key, shape in REPLAYS[stage].items()}


def harmonics(n):
    x, y, z = n
    one = torch.ones(())
    return torch.stack([one, y, z, x, x * y, y * z, 2 * (z * z - x * x - y * y), z * x, x * x - y * y])


def record(folder, prefix, build, names=None):
    """Make a folder of coarse vectors with other weights, inputs and assets, recorded from `build`'s subject."""
    folder.mkdir()
    for name in ("keys.json", "coverage.json"):
        shutil.copy(BUNDLED / "coarse" / name, folder)
    (folder / "vectors_coarse.json").write_text(json.dumps({"seed_prefix": prefix}))
    with np.load(BUNDLED / "coarse" / "assets_coarse.npz") as file:
        assets = dict(file)
    assets["v_template"] = assets["v_template"] * np.float32(1.01)
    assets["tex_mean_bgr_u8"] = assets["tex_mean_bgr_u8"][:, ::-1]
    np.savez(folder / "assets_coarse.npz", **assets)
    stored = load_file(BUNDLED / "coarse" / "vectors_coarse.safetensors")
    save_file({"f64/placeholder": torch.zeros(1)}, folder / "vectors_coarse.safetensors")
    recipe = CoarseRecipe(load_folder(folder, RECIPES).material, build)
    chosen = [name for name in stored if not name.startswith("f64/") and (names is None or names(name))]
    with isolated_numerics(threads=1):  # as `check_subject` does; means over two threads round differently
        computed = {name: recipe.compute(name).to(stored[name].dtype) for name in sorted(chosen, key=recipe.order)}
    assert {name: value.shape for name, value in computed.items()} == {name: stored[name].shape for name in chosen}
    computed["f64/E_flame/parameters"] = torch.zeros(3)
    save_file(
        {name: value.contiguous().clone() for name, value in computed.items()}, folder / "vectors_coarse.safetensors"
    )
    return folder


@pytest.fixture(scope="module")
def held_back(tmp_path_factory):
    return record(tmp_path_factory.mktemp("conform") / "other", "held-back/", Fake)


@pytest.fixture
def deca_base(tmp_path):
    return Path(shutil.copytree(BUNDLED / "deca_base", tmp_path / "deca_base"))


def outcomes(report, outcome):
    return {vector.name for vector in report.vectors if vector.outcome is outcome}


def test_every_vector_of_another_folder_is_computed_and_agrees(held_back):
    for subject in ("modern", "legacy"):
        report = check_subject(held_back, subject, build=Fake)
        assert report.exit_code == 0, [vector for vector in report.vectors if vector.outcome is not Outcome.AGREES]
        assert all(vector.bitwise for vector in report.vectors if vector.outcome is Outcome.AGREES)
        mutated = {vector.name for vector in report.vectors if "col2_after" in vector.name}
        assert len(mutated) == 8
        assert outcomes(report, Outcome.NOT_ASKED) == (mutated if subject == "modern" else set())
        assert outcomes(report, Outcome.INFO) == {"f64/E_flame/parameters"}
        assert report.switches["threads"] == "1"


@pytest.mark.parametrize(
    ("spoiled", "amount", "found"),
    [
        ("flame/landmarks_dense", 1e-3, "^FLAME/mp$"),
        ("losses/expression", 1e-3, "/loss/expression$"),
        ("code_gradients/landmark", 1e-2, "/dloss_dours/landmark$"),
        ("shading", 1e-4, "^render/constant_factor$"),
        ("loss_function:eyed_loss", 1e-3, "^loss/eyed_loss$"),
        ("gradients/vit.transformer.layers.3.0.to_qkv.weight", 1e-2, "^step_[^/]*/grad_(norms|slices)$"),
        ("predicted_images", 1e-2, "^step_eval/predicted_images_strided$"),
    ],
)
def test_a_departure_is_found_under_its_own_name(held_back, spoiled, amount, found):
    report = check_subject(held_back, "modern", build=lambda setup: Fake(setup, {spoiled: amount}))
    assert report.exit_code == 1
    wrong = outcomes(report, Outcome.DISAGREES)
    assert wrong == {vector.name for vector in report.vectors if re.search(found, vector.name)}


def test_pictures_on_other_faces_never_pass(held_back):
    report = check_subject(held_back, "modern", build=lambda setup: Fake(setup, {"raster/face_ids": 1.0}))
    pictures = {vector.name for vector in report.vectors if vector.metric == "raster"}
    assert len(pictures) == 11
    assert outcomes(report, Outcome.DISAGREES) == pictures | {"render/pix_to_face"}


def test_another_prefix_is_another_recording(held_back, tmp_path):
    folder = Path(shutil.copytree(held_back, tmp_path / "renamed"))
    (folder / "vectors_coarse.json").write_text(json.dumps({"seed_prefix": "something else/"}))
    report = check_subject(folder, "modern", build=Fake)
    assert report.exit_code == 1
    assert {"E_flame/parameters", "loss/eyed_loss", "FLAME4/mp"} <= outcomes(report, Outcome.DISAGREES)


def test_other_assets_are_another_recording(held_back, tmp_path):
    folder = Path(shutil.copytree(held_back, tmp_path / "assets"))
    shutil.copy(BUNDLED / "coarse" / "assets_coarse.npz", folder)
    assert check_subject(folder, "modern", build=Fake).exit_code == 1


def test_what_cannot_be_computed_is_named_and_never_passes(held_back):
    report = check_subject(held_back, "modern", build=lambda setup: Fake(setup, lost=frozenset({"texture/albedo"})))
    missing = {vector.name: vector.note for vector in report.vectors if vector.outcome is Outcome.NOT_COMPUTED}
    assert set(missing) == {"FLAMETex/albedo_strided", "FLAMETex/albedo_corner"}
    assert all("texture/albedo" in note for note in missing.values())
    assert report.exit_code == 2


def test_a_subject_that_cannot_be_built_is_asked_once_per_run(held_back):
    attempts = []

    def build(setup):
        attempts.append(setup)
        raise RuntimeError("no weights")

    report = check_subject(held_back, "modern", build=build)
    assert report.exit_code == 2
    assert len(attempts) == 4
    assert {vector.note for vector in report.vectors if vector.outcome is Outcome.NOT_COMPUTED} == {
        "RuntimeError: no weights"
    }


def test_runs_follow_the_readme(held_back):
    setups = []
    check_subject(held_back, "modern", build=lambda setup: setups.append(setup) or Fake(setup))
    assert [(setup.dropout, dict(setup.overrides)) for setup in setups] == [
        (0.0, {}),
        (0.1, {}),
        (0.0, {"loss.lipd": 1.0, "loss.focalAU": True, "loss.reg_shape": 1e-4}),
        (0.0, {"loss.weightedAU": True, "loss.useSeg": False}),
    ]
    encoder = setups[0].weights["E_flame"]
    raw = seeded.parameter("E_flame", "layers.2.weight", (236, 1024), prefix="held-back/") * 0.3
    assert torch.equal(encoder["layers.2.weight"][:206], raw[:206])  # the edits apply with a prefix too
    assert torch.equal(encoder["layers.2.bias"][206:209], torch.tensor([8.0, 0.002, 0.03]))


def test_keys_of_other_networks_are_refused(held_back, tmp_path):
    folder = Path(shutil.copytree(held_back, tmp_path / "keys"))
    keys = json.loads((folder / "keys.json").read_text())
    keys["BiViT"]["vit.mlp_head.bias"] = [[128], "float32"]
    (folder / "keys.json").write_text(json.dumps(keys))
    report = check_subject(folder, "modern", build=Fake)
    assert report.exit_code == 2
    assert not outcomes(report, Outcome.AGREES)
    assert len(outcomes(report, Outcome.NOT_COMPUTED)) == report.asked > 100
    assert "BiViT" in report.problem
    assert "vit.mlp_head.bias" in report.problem


@pytest.mark.parametrize(
    "name", ["vectors_deca_base.json", "vectors_deca_base.safetensors", "coverage.json", "keys.json"]
)
def test_a_missing_file_cannot_be_judged(deca_base, name):
    (deca_base / name).unlink()
    report = check_folder(deca_base, "modern")
    assert report.exit_code == 2
    assert f"{name} is missing" in report.problem


@pytest.mark.parametrize(
    "name", ["vectors_deca_base.json", "vectors_deca_base.safetensors", "coverage.json", "keys.json"]
)
def test_a_truncated_file_cannot_be_judged(deca_base, name):
    path = deca_base / name
    path.write_bytes(path.read_bytes()[:30])
    report = check_folder(deca_base, "modern")
    assert report.exit_code == 2
    assert name in report.problem


def test_unknown_stems_are_said(deca_base, tmp_path):
    for suffix in ("json", "safetensors"):
        (deca_base / f"vectors_deca_base.{suffix}").rename(deca_base / f"vectors_motion.{suffix}")
    report = check_folder(deca_base, "modern")
    assert report.exit_code == 2
    assert "vectors_motion is not supported yet" in report.problem
    assert "found none" in check_folder(tmp_path / "nowhere", "modern").problem
    assert check_folder(BUNDLED / "coarse", "both sides").exit_code == 2


def test_an_unknown_metric_is_said(deca_base):
    document = json.loads((deca_base / "coverage.json").read_text())
    document["rules"][0]["metric"] = "vibes"
    (deca_base / "coverage.json").write_text(json.dumps(document))
    assert "unknown metrics: vibes" in check_folder(deca_base, "modern").problem


class FakeDeca:
    """Answers deca_base questions by what they are fed."""

    def __init__(self, setup):
        self.identity = setup.weights["FRNet"]["conv1.weight"]

    def replay(self, stage, inputs):
        total = sum(tensor.sum() for tensor in inputs.values())
        shapes = {"matrix": (24, 3, 3), "axis_angle": (16, 3), "features_tar": (3, 2048), "grad_gen": (3, 3, 224, 224)}
        shapes["out"] = (3, 10, 3) if stage == "deca:orth_proj" else (2, 1, 64, 64)
        shapes["distances"] = (4, 4) if stage == "deca:eye_dis" else (4, 3)
        keys = {
            "deca:rodrigues": ["matrix"],
            "deca:euler": ["axis_angle"],
            "deca:orth_proj": ["out"],
            "deca:erosion": ["out"],
            "deca:eye_dis": ["distances"],
            "deca:lip_dis": ["distances"],
            "deca:identity": ["loss", "features_tar", "grad_gen"],
        }.get(stage, ["value"])
        return {key: total.expand(shapes.get(key, ())) + self.identity.sum() for key in keys}


def test_the_deca_base_recipe_yields_every_vector_it_is_asked_for(deca_base):
    report = check_subject(deca_base, "modern", build=FakeDeca)
    assert not outcomes(report, Outcome.NOT_COMPUTED)
    assert outcomes(report, Outcome.AGREES) == {"rodrigues/in", "euler/in", "erosion/in"}
    assert outcomes(report, Outcome.NOT_ASKED) == {"landmark/weights_written_into_gt"}
    assert not any("shape" in vector.note for vector in report.vectors if vector.outcome is Outcome.DISAGREES)
    nothing = check_subject(deca_base, "legacy", build=lambda setup: pytest.fail("nothing is asked of it"))
    assert (nothing.asked, nothing.exit_code) == (0, 2)


def test_a_recipe_sees_no_expected_value(deca_base):
    material = load_folder(deca_base, RECIPES).material
    assert set(material.given) == {"rodrigues/in", "euler/in", "erosion/in"}
    assert not load_folder(BUNDLED / "coarse", RECIPES).material.given


def subject_report(*words, problem=""):
    vectors = tuple(Vector(name=f"v{index}", outcome=word) for index, word in enumerate(words))
    return SubjectReport(subject="modern", vectors=vectors, problem=problem)


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ([subject_report(Outcome.AGREES, Outcome.INFO, Outcome.NOT_ASKED)], 0),
        ([subject_report(Outcome.AGREES, Outcome.NOT_COMPUTED)], 2),
        ([subject_report(Outcome.DISAGREES, Outcome.NOT_COMPUTED)], 1),
        ([subject_report(Outcome.INFO, Outcome.NOT_ASKED)], 2),
        ([subject_report(problem="no such file")], 2),
        ([subject_report(Outcome.AGREES), subject_report(Outcome.NOT_ASKED)], 0),
        ([subject_report(Outcome.AGREES), subject_report(problem="killed")], 2),
        ([subject_report(Outcome.DISAGREES), subject_report(problem="killed")], 1),
        ([], 2),
    ],
)
def test_exit_codes(parts, code):
    assert ConformReport(folder="f", device="cpu", subjects=tuple(parts)).exit_code == code


def test_json_is_strict_and_the_terminal_lists_every_vector(held_back, capsys):
    part = check_subject(held_back, "modern", build=lambda setup: Fake(setup, {"losses/tex_reg": float("inf")}))
    report = ConformReport(folder=str(held_back), device="cpu", subjects=(part,))
    document = json.loads(as_json(report, {"torch": "2"}), parse_constant=lambda word: pytest.fail(word))
    rows = {row["name"]: row for row in document["subjects"][0]["vectors"]}
    assert document["exit_code"] == 1
    assert rows["step_eval/loss/tex_reg"]["outcome"] == "disagrees"
    assert {"metric", "bound", "figure", "max_abs", "rel_l2", "bitwise", "note"} <= rows["FLAME/mp"].keys()
    print_report(report)
    printed = capsys.readouterr().out
    assert all(name in printed for name in rows)
    assert "exit code 1" in printed
