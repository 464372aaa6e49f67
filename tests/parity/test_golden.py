"""Goldens: when one is refused, and what a regeneration reports and deletes."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from parity import golden, worker
from parity.golden import (
    MAX_BYTES,
    GoldenCorrupt,
    GoldenError,
    GoldenMissing,
    GoldenStale,
    Provenance,
    diff_goldens,
    golden_folder,
    golden_index,
    golden_name,
    load_golden,
    provenance,
    remove_orphans,
    write_golden,
)
from parity.session import Request, usable_batch
from parity.subject import Plan, Setup
from parity.trace import Trace

BATCH = "carphone_0040"
ORIGIN = Provenance(legacy="l", weights="w", head="h", batch="b", settings={"dropout": 0.1, "steps": 1})


@pytest.fixture(autouse=True)
def _intact_legacy(monkeypatch):
    monkeypatch.setattr(golden, "check_manifest", list)


def trace(subject="legacy", shift=0.0):
    result = Trace(subject=subject)
    result.put("encoder", {"parameters": torch.linspace(0, 1, 708).reshape(3, 236)})
    result.put("flame", {"vertices": torch.linspace(-1, 1, 15069).reshape(1, 5023, 3) + shift})
    result.put("gradients", {"vit.FC_glob.weight": torch.linspace(-1, 1, 1_048_576).reshape(512, 2048) + shift})
    return result


def test_a_golden_compares_bitwise_with_what_it_was_recorded_from(tmp_path):
    write_golden(trace(), "clip", ORIGIN, tmp_path)
    recording = load_golden("clip", ORIGIN, tmp_path)
    assert all(recording.compare(key, value).bitwise for key, value in trace().tensors.items())
    moved = trace(shift=1e-6)
    assert not recording.compare("flame/vertices", moved.tensors["flame/vertices"]).bitwise
    assert not recording.compare("gradients/vit.FC_glob.weight", moved.tensors["gradients/vit.FC_glob.weight"]).bitwise


def test_rewriting_an_unchanged_golden_changes_no_byte(tmp_path):
    write_golden(trace(), "clip", ORIGIN, tmp_path)
    before = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    write_golden(trace(), "clip", ORIGIN, tmp_path)
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == before


def test_a_missing_golden_says_how_to_record_it(tmp_path):
    with pytest.raises(GoldenMissing, match="pytest parity/ --regen"):
        load_golden("clip", ORIGIN, tmp_path)


def test_a_truncated_golden_is_corrupt(tmp_path):
    write_golden(trace(), "clip", ORIGIN, tmp_path)
    path = tmp_path / "clip.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(GoldenCorrupt, match=r"truncated.*pytest parity/ --regen"):
        load_golden("clip", ORIGIN, tmp_path)


@pytest.mark.parametrize(
    "change",
    [{"legacy": "x"}, {"weights": "x"}, {"head": "x"}, {"batch": "x"}, {"settings": {"dropout": 0.0, "steps": 1}}],
)
def test_a_golden_of_other_code_or_inputs_is_stale(tmp_path, change):
    write_golden(trace(), "clip", ORIGIN, tmp_path)
    with pytest.raises(GoldenStale, match=f"{next(iter(change))} changed.*pytest parity/ --regen"):
        load_golden("clip", replace(ORIGIN, **change), tmp_path)


def test_goldens_come_from_an_intact_legacy_only(tmp_path, monkeypatch):
    write_golden(trace(), "clip", ORIGIN, tmp_path)
    before = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    with pytest.raises(GoldenError, match="from legacy only"):
        write_golden(trace(subject="modern", shift=1), "clip", ORIGIN, tmp_path)
    monkeypatch.setattr(golden, "check_manifest", lambda: ["decalib/deca.py: changed"])
    with pytest.raises(GoldenError, match=r"altered \(decalib/deca.py: changed\)"):
        write_golden(trace(shift=1), "clip", ORIGIN, tmp_path)
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == before


def test_an_oversized_golden_is_refused(tmp_path):
    huge = trace()
    for index in range(200):
        huge.put("rendering", {f"images{index}": torch.zeros(5000)})
    with pytest.raises(GoldenError, match=f"allowed {MAX_BYTES}"):
        write_golden(huge, "clip", ORIGIN, tmp_path)
    assert not list(tmp_path.iterdir())


def test_regeneration_reports_new_changed_unchanged_and_orphaned(tmp_path):
    for name in ("same", "moved", "gone"):
        write_golden(trace(), name, ORIGIN, tmp_path)
    before = golden_index(tmp_path)
    write_golden(trace(shift=1e-3), "moved", ORIGIN, tmp_path)
    write_golden(trace(), "fresh", ORIGIN, tmp_path)
    written = {name: tensors for name, tensors in golden_index(tmp_path).items() if name != "gone"}
    table = diff_goldens(before, written).set_index("golden")
    assert table["status"].to_dict() == {"same": "unchanged", "moved": "changed", "gone": "orphaned", "fresh": "new"}
    assert tuple(table.loc["moved", ["tensors", "first"]]) == (2, "flame/vertices")


def test_orphans_go_only_on_a_full_run(tmp_path):
    for name in ("kept", "gone"):
        write_golden(trace(), name, ORIGIN, tmp_path)
    assert remove_orphans(tmp_path, {"kept"}, full_run=False) == []
    assert set(golden_index(tmp_path)) == {"kept", "gone"}
    assert remove_orphans(tmp_path, {"kept"}, full_run=True) == ["gone"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.json", "kept.safetensors"]


def test_a_corrupt_manifest_does_not_stop_the_index(tmp_path):
    write_golden(trace(), "clip", ORIGIN, tmp_path)
    (tmp_path / "broken.json").write_text("{")
    assert golden_index(tmp_path)["broken"] == {}


def test_provenance_follows_every_input(tmp_path):
    from parity.batch import seeded_batch

    head = type("Head", (), {})()
    head.v_template = torch.zeros(5, 3)
    weights = {"BiViT": {"vit.mlp_head.bias": torch.zeros(127)}}
    setup, plan = Setup(weights=weights, head=head), Plan()
    manifest = tmp_path / "MANIFEST.sha256"
    manifest.write_text("abc  deca.py\n")
    base = provenance(setup, seeded_batch(), plan, "", manifest)
    assert base == provenance(setup, seeded_batch(), plan, "", manifest)
    other = {"BiViT": {"vit.mlp_head.bias": torch.full((127,), 1e-30)}}
    assert provenance(replace(setup, weights=other), seeded_batch(), plan, "", manifest).weights != base.weights
    assert provenance(setup, seeded_batch("p/"), plan, "", manifest).batch != base.batch
    assert provenance(replace(setup, dropout=0.1), seeded_batch(), plan, "", manifest).settings != base.settings
    assert provenance(setup, seeded_batch(), replace(plan, steps=5), "", manifest).settings != base.settings
    head.v_template = torch.ones(5, 3)
    assert provenance(setup, seeded_batch(), plan, "", manifest).head != base.head
    manifest.write_text("abd  deca.py\n")
    assert provenance(setup, seeded_batch(), plan, "", manifest).legacy != base.legacy


def test_names_are_safe_for_files():
    from parity.batch import seeded_batch

    assert golden_name(seeded_batch(), "dropout") == "seeded-dropout"
    assert golden_name(seeded_batch("a b/"), "plain") == "seeded-a-b-plain"
    assert golden_folder(device="cpu").parent.name == "golden"


def test_what_a_plan_asks_for_beside_the_tensors_makes_no_golden_stale():
    """A golden recorded before such a wish existed stands for the same tensors."""
    setup, batch = Setup(weights={}, head=SimpleNamespace()), SimpleNamespace(digest="b")
    asked = [provenance(setup, batch, Plan(digests=wish)) for wish in (True, False)]
    assert asked[0] == asked[1] != provenance(setup, batch, Plan(term_gradients=False))


@pytest.mark.parametrize("variant", ["eval", "dropout", "detail"])
def test_the_committed_goldens_are_of_this_tree(variant):
    if usable_batch(BATCH)[0] != BATCH:
        pytest.skip("the pixels of the bundled clip cannot be had here")
    spec = Request().variants(BATCH)[variant]
    if not golden_folder().is_dir():
        pytest.skip("no goldens of this platform")
    batch, tree = worker.batch_of(spec), worker.pipeline_of(spec).tree
    origin = provenance(worker.setup_of(spec), batch, Plan(steps=spec.steps, seed=spec.seed), tree)
    load_golden(f"{golden_name(batch, variant)}-{spec.steps}", origin, golden_folder())
