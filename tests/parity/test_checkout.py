"""A lab's own checkout: recognised, told apart by content, and refused in words where the audit cannot use it."""

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from parity.audit import floor_key, trace_key
from parity.checkout import COARSE, DETAIL, FORKS, CheckoutError, blamed, content_digest, recognised
from parity.checkout_check import admitted, examine
from parity.files import ROOT
from parity.golden import GoldenError
from parity.golden_check import against_golden, record_golden
from parity.session import FALLBACK, Request

DECA = {fork: f"decalib/{fork.deca}.py" for fork in FORKS}
TRAINER = {fork: f"decalib/{fork.trainer}.py" for fork in FORKS}


@pytest.fixture
def lab(tmp_path):
    """Copies a fork to where nothing says it is ours."""

    def copied(fork=COARSE, name="lab"):
        return Path(shutil.copytree(ROOT / "legacy" / fork.name, tmp_path / name, ignore=_byte_code))

    return copied


_byte_code = shutil.ignore_patterns("__pycache__")


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def needed(root, fork):
    return [f"{lack.place}: {lack.what}" for lack in examine(root, fork).needed]


def named(root, fork):
    return [f"{lack.place}: {lack.what}" for lack in examine(root, fork).named]


@pytest.mark.parametrize("fork", FORKS, ids=lambda fork: fork.name)
def test_each_fork_is_recognised_by_any_of_its_files(fork, lab):
    root = lab(fork)
    assert recognised(root) is fork
    assert recognised(root, fork.pipeline) is fork
    for file in fork.files[:-1]:
        (root / file).unlink()
        assert recognised(root) is fork
    (root / fork.files[-1]).unlink()
    with pytest.raises(CheckoutError, match=f"no checkout of either fork.*{fork.deca}"):
        recognised(root)


def test_a_contradicting_pipeline_a_missing_folder_and_the_folder_above_are_refused(lab, tmp_path):
    root = lab()
    with pytest.raises(CheckoutError, match=r"--pipeline detail contradicts .* checkout of AU_sequence .*coarse"):
        recognised(root, "detail")
    with pytest.raises(CheckoutError, match="contradicts"):
        recognised(root, "both")
    with pytest.raises(CheckoutError, match="no such folder"):
        recognised(tmp_path / "nowhere")
    with pytest.raises(CheckoutError, match=r"Did you mean .*AU_sequence or .*AUcGAN\?"):
        recognised(ROOT / "legacy")


def test_a_folder_with_both_forks_needs_a_pipeline(lab):
    root = lab()
    shutil.copytree(ROOT / "legacy" / "AUcGAN", root, dirs_exist_ok=True, ignore=_byte_code)
    with pytest.raises(CheckoutError, match="both forks"):
        recognised(root)
    assert recognised(root, "detail") is DETAIL


@pytest.mark.parametrize("fork", FORKS, ids=lambda fork: fork.name)
def test_the_reconstruction_itself_has_all_that_is_needed(fork):
    assert examine(ROOT / "legacy" / fork.name, fork).needed == []


CHANGES = [
    (COARSE, DECA[COARSE], "class DECA(", "class Deca(", "class DECA: not there"),
    (COARSE, DECA[COARSE], "def encode(self, images_224)", "def encode(self, images, au)", "also wants au"),
    (COARSE, DECA[COARSE], "self.BiViT =", "self.vit =", "attribute BiViT of DECA: never set"),
    (COARSE, DECA[COARSE], "'mp_landmark'", "'mediapipe'", "key 'mp_landmark'"),
    (
        COARSE,
        TRAINER[COARSE],
        "def configure_optimizers",
        "def make_optimizers",
        "method Trainer.configure_optimizers()",
    ),
    (COARSE, TRAINER[COARSE], "batch_nb, training_type='coarse')", "number, kind)", "also wants kind"),
    (
        COARSE,
        "decalib/utils/renderer3.py",
        "lights=None, h=None, w=None,",
        "lights=None, size=None,",
        "no argument h, w",
    ),
    (COARSE, "decalib/utils/renderer3.py", "def add_SHlight(", "def shade(", "method SRenderY.add_SHlight"),
    (COARSE, "decalib/utils/util.py", "def vertex_normals(", "def normals_of(", "function vertex_normals"),
    (COARSE, "decalib/utils/config.py", "cfg.train.resume = ", "cfg.train.again = ", "setting train.resume"),
    (COARSE, "decalib/models/FLAME.py", "pose_params=None", "poses=None", "no argument pose_params"),
    (
        DETAIL,
        TRAINER[DETAIL],
        "uv_texture_gt_patch",
        "gt_patch",
        "variable uv_texture_gt_patch of Trainer.training_step",
    ),
    (DETAIL, TRAINER[DETAIL], "G_loss = ", "g = ", "variable G_loss of Trainer.discriminator_step"),
    (DETAIL, DECA[DETAIL], "import load_model", "import load_emoca", "name load_model"),
    (DETAIL, "decalib/utils/lossfunc_AU_enc_dec_origT_adv.py", "self.vgg19", "self.net", "attribute vgg19"),
]


@pytest.mark.parametrize(("fork", "file", "old", "new", "said"), CHANGES, ids=[change[4] for change in CHANGES])
def test_a_changed_name_is_told_with_file_and_name(fork, file, old, new, said, lab):
    root = lab(fork)
    edit(root / file, old, new)
    found = needed(root, fork)
    assert any(line.startswith(file) and said in line for line in found), found


def test_a_missing_file_is_told_with_the_line_that_imports_it(lab):
    root = lab()
    (root / "decalib/models/lbs.py").unlink()
    (root / "decalib/utils/util.py").unlink()
    found = needed(root, COARSE)
    assert "decalib/utils/util.py: no such file" in found
    assert any(
        re.match(r"decalib/models/FLAME.py:\d+: imports .lbs, which the checkout does not have", x) for x in found
    )


def test_a_name_imported_from_a_file_that_lacks_it_is_told(lab):
    root = lab()
    edit(root / "decalib/utils/rotation_converter.py", "def batch_euler2axis", "def other")
    assert any("imports batch_euler2axis from .utils.rotation_converter" in line for line in needed(root, COARSE))


@pytest.mark.parametrize("regular", [True, False])
def test_a_module_missing_from_a_package_is_told_with_or_without_its_init(regular, lab):
    root = lab()
    (root / "decalib/datasets/build_datasets_video.py").unlink()
    if not regular:
        (root / "decalib/datasets/__init__.py").unlink()
    assert any("imports build_datasets_video from .datasets" in line for line in needed(root, COARSE))


def test_packages_that_are_not_installed_and_files_of_another_python_are_told(lab):
    root = lab(DETAIL)  # which imports gdl_apps, answered by the adapter
    edit(root / TRAINER[DETAIL], "import cv2\n", "import cv2\nimport torchfile_of_the_lab\nimport gdl_apps\n")
    (root / "decalib/models/lbs.py").write_text("x = y.cuda(async=True)\n")
    found = needed(root, DETAIL)
    assert len(found) == 2
    assert any("imports torchfile_of_the_lab, which is not installed here" in line for line in found)
    assert any(line.startswith("decalib/models/lbs.py:1: Python 3.") for line in found)


def test_a_guarded_import_and_a_renamed_positional_argument_are_no_reason_to_stop(lab):
    root = lab()
    edit(
        root / TRAINER[COARSE],
        "import cv2\n",
        "import cv2\ntry:\n    import not_there\nexcept ImportError:\n    pass\n",
    )
    edit(root / TRAINER[COARSE], "batch_nb", "number")
    assert needed(root, COARSE) == []
    assert any("Trainer.training_step" in line and "another signature" in line for line in named(root, COARSE))


def test_the_renderer_may_go_by_either_name(lab):
    root = lab()
    (root / "decalib/utils/renderer3.py").rename(root / "decalib/utils/renderer.py")
    assert any("imports .utils.renderer3" in line for line in needed(root, COARSE))
    edit(root / DECA[COARSE], ".utils.renderer3", ".utils.renderer")
    assert needed(root, COARSE) == []
    edit(root / "decalib/utils/renderer.py", "def add_SHlight(", "def shade(")
    assert any(
        line.startswith("decalib/utils/renderer.py: method SRenderY.add_SHlight") for line in needed(root, COARSE)
    )


def test_only_the_run_configuration_that_was_published_is_needed(lab):
    coarse, detail = lab(COARSE, "one"), lab(DETAIL, "two")
    (coarse / COARSE.yml).unlink()
    (detail / DETAIL.yml).unlink()
    assert needed(coarse, COARSE) == [f"{COARSE.yml}: no such file"]
    assert needed(detail, DETAIL) == []
    assert any("none was ever published" in line and "defaults" in line for line in named(detail, DETAIL))


def test_names_of_the_specification_that_nothing_needs_are_told_and_the_audit_goes_on(lab):
    root = lab()
    edit(root / "decalib/utils/lossfuncN.py", "def kl_loss", "def kullback")
    edit(root / "decalib/utils/util.py", "import os", "import os\nimport numpy as np\nX = lambda x: np.int(x)")
    said = StringIO()
    skipped = admitted(root, "coarse", Console(file=said))
    assert "kl_loss: not there" in skipped[0]["why"]
    assert "decalib/models/GATE.py: no such file" in skipped[0]["why"]
    assert "(np.int)" in skipped[0]["why"]
    assert content_digest(root)[:16] in said.getvalue()


def test_the_command_ends_with_code_2_the_whole_list_and_no_traceback(lab, tmp_path):
    root = lab()
    (root / TRAINER[COARSE]).unlink()
    edit(root / DECA[COARSE], "self.flametex =", "self.texture =")
    command = [sys.executable, "-m", "parity", "run", "--legacy-root", str(root), "--out", str(tmp_path / "out")]
    run = subprocess.run([*command, "--batch", FALLBACK], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2, run.stderr
    assert "Traceback" not in run.stderr
    for words in (f"{TRAINER[COARSE]}: no such file", "attribute flametex of DECA: never set", "docs/legacy_root.md"):
        assert words in run.stderr
    assert not (tmp_path / "out").exists()


def test_keys_speak_of_the_content_of_the_checkout_and_never_of_its_place(lab):
    ours = Request(pipeline="coarse").variants(FALLBACK)["eval"]
    first, second = lab(name="one"), lab(name="two")
    specs = [replace(ours, legacy_root=str(root)) for root in (first, second)]
    assert trace_key(specs[0], "legacy") == trace_key(specs[1], "legacy") != trace_key(ours, "legacy")
    assert floor_key(specs[0]) == floor_key(specs[1]) != floor_key(ours)
    assert trace_key(specs[0], "modern") == trace_key(ours, "modern")
    edit(second / "decalib/utils/lossfuncN.py", "weight=1.", "weight=1.0")
    assert trace_key(specs[0], "legacy") != trace_key(specs[1], "legacy")
    assert floor_key(specs[0]) != floor_key(specs[1])


def test_the_digest_ignores_what_is_no_source(lab):
    root = lab()
    before = content_digest(root)
    for folder in (".git", "decalib/__pycache__", "venv"):
        (root / folder).mkdir(exist_ok=True)
        (root / folder / "x.py").write_text("x = 1")
    (root / "venv" / "pyvenv.cfg").touch()
    (root / "notes.txt").touch()
    assert content_digest(root) == before
    (root / "decalib" / "more.yaml").touch()
    assert content_digest(root) != before


def test_goldens_of_the_reconstruction_are_not_claimed_of_another_tree(lab):
    spec = replace(Request(pipeline="coarse").variants(FALLBACK)["eval"], legacy_root=str(lab()))
    state = against_golden(spec, "eval", {})
    assert (state.state, state.drifts) == ("missing", {})
    assert spec.legacy_root in state.detail
    with pytest.raises(GoldenError, match="another tree"):
        record_golden(spec, "eval", Path())


def test_what_the_checkouts_code_raises_is_told_with_its_place(lab):
    root = lab()
    script = root / "decalib" / "fails.py"
    script.write_text("def f():\n    exit()\n")
    names = {"exit": sys.exit}
    exec(compile(script.read_text(), str(script), "exec"), names)
    with pytest.raises(CheckoutError, match=r"decalib/fails.py:2 \(exit\(\)\): SystemExit"), blamed(str(root)):
        names["f"]()
    with pytest.raises(KeyError), blamed(""):
        raise KeyError("ours")


def imported(root, fork, prelude=""):
    """What a fresh process says of the modules named decalib after choosing a tree and importing its Trainer."""
    code = f"""
import sys
from parity.checkout import COARSE, DETAIL
from parity.legacy_tree import choose_tree, config_file, import_from, renderer_of
from parity.legacy_detail_build import _emoca_importable
fork = COARSE if {fork.name!r} == COARSE.name else DETAIL
{prelude}
choose_tree(fork, {str(root)!r})
with _emoca_importable():
    import_from(fork, fork.deca), import_from(fork, fork.trainer), renderer_of(fork)
print(config_file(fork))
for name, module in list(sys.modules.items()):
    if 'decalib' in name and getattr(module, '__file__', None):
        print(module.__file__)
"""
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("fork", FORKS, ids=lambda fork: fork.name)
def test_every_module_comes_from_the_checkout_and_nothing_is_written_there(fork, lab):
    root = lab(fork)
    edit(root / TRAINER[fork], "from .utils import util\n", "from decalib.utils import util\n")  # as some labs write
    (root / "decalib" / "utils" / "__init__.py").unlink()
    before = sorted(root.rglob("*"))
    run = imported(root, fork)
    assert run.returncode == 0, run.stderr
    files = run.stdout.split()
    assert len(files) > 15
    assert all(Path(file).is_relative_to(root) for file in files)
    assert sorted(root.rglob("*")) == before


def test_two_trees_are_never_mixed_in_one_process(lab):
    run = imported(lab(), COARSE, prelude="import_from(COARSE, 'utils.util')")
    assert "CheckoutError: this process already holds decalib of" in run.stderr
