"""Bugs planted in a copy of modern must turn an audit red at the stage where they sit, judged by stored noise floors.

Legacy's trace is the one the audit keeps; each bug is one replacement in one source file.
"""

import importlib
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context

import pytest

from parity import worker
from parity.audit import CACHE, committed_floors, compare_traces, floor_key, floor_name, trace_key
from parity.comparison import compare
from parity.environment import isolated_numerics
from parity.files import ROOT
from parity.noise import read_floors
from parity.session import Request, usable_batch
from parity.trace import load_trace
from parity.verdict import Verdict, judge

pytestmark = pytest.mark.slow
BATCH = "carphone_0040"
# Stages that take long and that no bug below touches.
UNTOUCHED = {"raster", "uv_surface"}


@dataclass(frozen=True)
class Bug:
    """`old` becomes `new` in `file`; `stage` must be the first to drift. Seen in a run of modern's own if `chained`."""

    name: str
    variant: str
    file: str
    old: str
    new: str
    stage: str
    chained: bool = False


SPLIT = 'SEQUENCE_LAYOUT = {"tex": 50, "exp": 50, "light": 27}'
KEPT = "return kept_BHW3.permute(0, 3, 1, 2).flip(1).contiguous()"
ALL = "map_BN = self.mean_N + (self.basis_NK * tex_BK[:, None]).sum(dim=-1)"
LEFT_ON = "        module.training = training\n"
ADAM_G = "torch.optim.Adam(painters, lr=train.lr_generator, betas=betas)"
ADAM_D = "torch.optim.Adam(model.discriminator.parameters(), lr=train.lr_discriminator, betas=betas)"
TURN = """        discriminator = self.update_discriminator(output, optimizers)
        generator = self.update_generator(output, optimizers)
"""
RETURN = """        generator = self.update_generator(output, optimizers)
        discriminator = self.update_discriminator(output, optimizers)
"""
BUGS = (
    Bug("exp and tex swapped", "eval", "codes.py", SPLIT, SPLIT.replace("tex", "TEX").replace("exp", "tex").replace("TEX", "exp"), "codes"),
    Bug("light as [3,9]", "eval", "codes.py", '["light"].reshape(-1, *_LIGHT)', '["light"].reshape(-1, 3, 9).transpose(1, 2)', "deca_codes"),
    Bug("no position", "eval", "sequence.py", "torch.cat([class_B1D, frames_BTD], dim=1) + self.position", "torch.cat([class_B1D, frames_BTD], dim=1)", "sequence"),
    Bug("one landmark weight", "eval", "losses/landmarks.py", "_LIDS = (24, 30, 40, 46)", "_LIDS = (24, 30, 40, 47)", "losses"),
    Bug("bilinear texture", "eval", "texture.py", 'mode="nearest"', 'mode="bilinear"', "texture", chained=True),
    Bug("BGR kept", "eval", "texture.py", KEPT, KEPT.replace(".flip(1)", ""), "texture"),
    Bug("Adam eps", "eval", "train/step.py", "lr=config.train.lr, amsgrad=False", "lr=config.train.lr, eps=1e-7", "adam"),
    Bug("dropout at evaluation", "dropout", "model.py", "    model.eval()\n", "", "prediction", chained=True),
    Bug("condition order", "detail", "detail/networks.py", "torch.cat([latent_B181, self.conditioning(afn_BUC)], dim=1)", "torch.cat([self.conditioning(afn_BUC), latent_B181], dim=1)", "generator"),
    Bug("bilinear upsampling", "detail", "detail/networks.py", 'scale_factor=2, mode="nearest"', 'scale_factor=2, mode="bilinear"', "generator"),
    Bug("max_z on", "detail", "detail/model.py", 'if "D25" in self.fixes else', 'if "D25" not in self.fixes else', "generator"),
    Bug("flip not detached", "detail", "losses/detail.py", "x.uv_z_B1SS.flip(-1).detach()", "x.uv_z_B1SS.flip(-1)", "map_gradients"),
    Bug("targets swapped", "detail", "detail/step.py", "_CONVINCING = 0.9, 0.1, 1.0", "_CONVINCING = 0.1, 0.9, 1.0", "d_losses"),
    Bug("D after G", "detail", "detail/step.py", TURN, RETURN, "adversarial", chained=True),
    Bug("logits unswapped", "detail", "losses/detail.py", "with_logits(x.au_photograph_B41, x.au_painted_B41)", "with_logits(x.au_painted_B41, x.au_photograph_B41)", "losses"),
    Bug("erosion 3x3", "detail", "losses/deca.py", "size: int = 5", "size: int = 3", "visibility"),
    Bug("mask before the enlargement", "detail", "detail/visibility.py", "return face_patch(texture_B3SS), face_patch(texture_gt_B3SS),", "return face_patch(texture_B3SS * visible_B1SS), face_patch(texture_gt_B3SS * visible_B1SS),", "patches"),
    Bug("Adam betas of G", "detail", "detail/step.py", ADAM_G, ADAM_G.replace(", betas=betas", ""), "g_adam"),
    Bug("Adam betas of D", "detail", "detail/step.py", ADAM_D, ADAM_D.replace(", betas=betas", ""), "d_adam"),
)  # fmt: skip


@contextmanager
def planted(bug, folder, monkeypatch):
    """`modern` and the audit's adapters to it, imported anew from a copy that has the bug."""
    shutil.copytree(ROOT / "modern", folder / "modern", ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "modern" / bug.file
    text = path.read_text()
    assert text.count(bug.old) == 1, f"{bug.file} no longer holds {bug.old!r} once"
    path.write_text(text.replace(bug.old, bug.new))
    ours = {name for name in sys.modules if name.split(".")[0] == "modern" or name.startswith("parity.modern_")}
    kept = {name: sys.modules.pop(name) for name in ours}
    monkeypatch.syspath_prepend(str(folder))
    try:
        assert importlib.import_module("modern").__file__.startswith(str(folder))
        worker._subject.cache_clear()
        yield
    finally:
        for name in [
            name for name in sys.modules if name.split(".")[0] == "modern" or name.startswith("parity.modern_")
        ]:
            del sys.modules[name]
        sys.modules.update(kept)
        worker._subject.cache_clear()


@pytest.fixture(scope="module")
def spec_of():
    if usable_batch(BATCH)[0] != BATCH:
        pytest.skip("the pixels of the bundled clip cannot be had here")
    return lambda variant: Request().variants(BATCH)[variant]


@pytest.fixture(scope="module")
def floors_of(spec_of):
    def read(variant):
        spec = spec_of(variant)
        path = committed_floors(spec, variant)
        if not path.exists():
            pytest.skip(f"no noise floors for this platform; measure them with: python -m parity floor ({path.name})")
        floors, facts = read_floors(path)
        assert facts["key"] == floor_key(spec), f"{path.name} is of another legacy tree: python -m parity floor"
        return floors

    return read


def reference(spec):
    """Legacy's trace, as the audit keeps it."""
    folder = CACHE / "traces" / trace_key(spec, "legacy")
    if not (folder / "facts.json").exists():
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            pool.submit(worker.trace_to, spec, "legacy", folder).result()
    return folder


def drifting(drifts, floors, mode):
    """Stages with a tensor that drifts."""
    words = {
        key: judge(drift, floors[mode].get(floor_name(mode, key)))[0] for key, drift in drifts.items() if "@" not in key
    }
    return {key.split("/")[0] for key, word in words.items() if word in (Verdict.DRIFT, Verdict.MISSING)}


def first_isolated(spec, folder, floors, last):
    """The first stage, up to `last`, that drifts on legacy's inputs."""
    trace = load_trace(folder)
    world = worker.recorded_world(spec, trace)
    for stage in worker.pipeline_of(spec).stages:
        if not stage.isolated or (stage.name in UNTOUCHED and stage.name != last):
            continue
        found = worker.replay(spec, "modern", stage.name, worker.inputs_of(spec, stage, world))
        drifts = {
            f"{stage.name}/{name}": compare(value, found[name]) for name, value in trace.stage(stage.name).items()
        }
        if drifting(drifts, floors, "isolated"):
            return stage.name
        if stage.name == last:
            return None
    return None


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_located(bug, spec_of, floors_of, tmp_path, monkeypatch):
    spec, floors = spec_of(bug.variant), floors_of(bug.variant)
    folder = reference(spec)
    with isolated_numerics(threads=1), planted(bug, tmp_path, monkeypatch):
        if not bug.chained:
            assert first_isolated(spec, folder, floors, bug.stage) == bug.stage
            return
        found = load_trace(worker.trace_to(spec, "modern", tmp_path / "trace"))
        stages = drifting(compare_traces(load_trace(folder), found), floors, "chained")
        read_after_update_last = sorted(worker.pipeline_of(spec).stages, key=lambda stage: stage.after_update)
        assert next(stage.name for stage in read_after_update_last if stage.name in stages) == bug.stage


def test_without_a_bug_nothing_drifts(spec_of, floors_of):
    """The negative control: the same road with the source as it is."""
    for variant in ("eval", "detail"):
        spec = spec_of(variant)
        last = worker.pipeline_of(spec).names[-1]
        with isolated_numerics(threads=1):
            assert first_isolated(spec, reference(spec), floors_of(variant), last) is None
