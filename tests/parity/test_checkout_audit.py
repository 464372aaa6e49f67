"""A checkout is really run: a copy of ours gives our bytes, and a change planted in it is found at its stage."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from safetensors.torch import load_file

from parity.audit import add_floors, committed_floors, crew, gather
from parity.files import ROOT
from parity.pipelines import pipeline_of
from parity.rows import first_divergence, make_rows
from parity.session import Request, progress, usable_batch
from parity.verdict import Verdict

BATCH = "carphone_0040"

RASTER = 56
TRACE = """
import sys
from dataclasses import replace
from pathlib import Path
from safetensors.torch import save_file
from parity.checkout import blamed
from parity.environment import fix_numerics
from parity.session import FALLBACK, Request
from parity.subject import Plan
from parity.worker import batch_of, setup_of

root, variant, out = sys.argv[1:]
fix_numerics()
spec = Request(legacy_root=root, pipeline="both").variants(FALLBACK)[variant]
if spec.pipeline == "coarse":
    from parity.legacy_subject import build_legacy as build
else:
    from parity.legacy_detail_subject import build_legacy_detail as build
with blamed(root):
    subject = build(setup_of(spec))
    with subject.quick(%d):
        trace = subject.trace(batch_of(spec), Plan(term_gradients=False))
save_file({key: value.contiguous().clone() for key, value in trace.tensors.items()}, out)
modules = [module for name, module in sys.modules.items() if "decalib" in name]
print(*{module.__file__ for module in modules if getattr(module, "__file__", None)}, sep="\\n")
"""


def traced(root, variant, out):
    """All tensors of one training step, and the files that legacy was imported from."""
    command = [sys.executable, "-c", TRACE % RASTER, str(root), variant, str(out)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return load_file(out), [Path(line) for line in run.stdout.split()]


def unequal(one, other):
    assert one.keys() == other.keys()
    return {key for key in one if one[key].numpy().tobytes() != other[key].numpy().tobytes()}


@pytest.mark.long
@pytest.mark.parametrize(
    ("fork", "variant", "file", "old", "new", "born"),
    [
        (
            *("AU_sequence", "eval", "decalib/trainer_Video_OnlyExpress.py"),
            *("* self.cfg.loss.eyed", "* self.cfg.loss.eyed * 1.01", {"losses/eye_distance", "losses/all_loss"}),
        ),
        (
            *("AUcGAN", "detail", "decalib/trainer_EM_AU_enc_dec_origT_aucGAN.py"),
            *("torch.full_like(output_real, 0.9)", "torch.full_like(output_real, 0.95)", {"d_losses/real"}),
        ),
    ],
    ids=["coarse", "detail"],
)
def test_a_copy_gives_our_bytes_and_a_planted_change_is_born_where_it_was_planted(
    fork, variant, file, old, new, born, tmp_path
):
    lab = shutil.copytree(ROOT / "legacy" / fork, tmp_path / "lab", ignore=shutil.ignore_patterns("__pycache__"))
    ours, own = traced("", variant, tmp_path / "ours.safetensors")
    copy, foreign = traced(lab, variant, tmp_path / "copy.safetensors")
    assert all(path.is_relative_to(ROOT / "legacy" / fork) for path in own)
    assert all(path.is_relative_to(lab) for path in foreign)
    assert len(own) == len(foreign) > 15
    assert unequal(ours, copy) == set()

    text = (lab / file).read_text()
    assert text.count(old) == 1
    (lab / file).write_text(text.replace(old, new))
    changed, _ = traced(lab, variant, tmp_path / "changed.safetensors")
    found = unequal(ours, changed)
    assert born <= found
    stages = [stage.name for stage in pipeline_of(variant).stages if not stage.after_update]
    changed_stages = {key.split("/")[0] for key in found}
    assert next(name for name in stages if name in changed_stages) == next(iter(born)).split("/")[0]


@pytest.mark.long
def test_the_audit_names_the_stage_of_a_change_in_the_checkout(tmp_path):
    if usable_batch(BATCH)[0] != BATCH:
        pytest.skip("the pixels of the bundled clip cannot be had here")
    lab = shutil.copytree(ROOT / "legacy/AU_sequence", tmp_path / "lab", ignore=shutil.ignore_patterns("__pycache__"))
    trainer = lab / "decalib" / "trainer_Video_OnlyExpress.py"
    trainer.write_text(trainer.read_text().replace("* self.cfg.loss.eyed", "* self.cfg.loss.eyed * 1.01"))
    spec = Request(legacy_root=str(lab), pipeline="coarse").variants(BATCH)["eval"]
    if not committed_floors(spec, "eval").exists():
        pytest.skip("no noise floors for this platform")
    with crew() as members, progress(Console(stderr=True), {}) as say:
        evidence = gather(spec, members=members, say=say, variant="eval")
        add_floors(evidence, members=members, say=say)
    assert evidence.golden.state == "missing"
    assert evidence.floor_tree == "the reconstruction"
    rows = make_rows(evidence)
    off = {row.id for row in rows if row.mode == "isolated" and row.verdict is Verdict.DRIFT}
    assert "isolated/eval/losses/eye_distance" in off
    assert all("eye_distance" in name or "all_loss" in name for name in off)
    first = first_divergence(rows)
    assert first is not None
    assert (first.stage, first.mode) == ("losses", "isolated")
    assert f"--legacy-root {lab}" in first.repeat
