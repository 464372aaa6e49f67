"""Bugs planted in a copy of modern are named at the right file and function, by a replay of their stage alone."""

import pytest

from parity import worker
from parity.audit import CACHE, trace_key
from parity.culprit import locate
from parity.environment import isolated_numerics
from parity.selftest.planting import planted
from parity.selftest.session import BUGS
from parity.session import Request, usable_batch

pytestmark = pytest.mark.long
BATCH = "carphone_0040"
BY_ID = {bug.id: bug for bug in BUGS}
# Bug -> function that holds the operation (of an optimizer: that builds it).
PLACES = {
    "c-exp-tex-swapped": "_split",
    "c-light-transposed": "_split",
    "c-no-position": "BiViT.forward",
    "c-lid-index": "weighted_l1",
    "c-bgr-kept": "FlameTexture.forward",
    "c-adam-eps": "make_optimizer",
    "d-condition-order": "DisplacementGenerator.forward",
    "d-masked-before": "face_patches",
    "d-erosion-3x3": "eroded",
    "d-targets-swapped": "_cross_entropy",
    "d-cross-entropy-swapped": "au_features",
    "d-adam-betas-d": "make_optimizers",
    "d-adam-betas-g": "make_optimizers",
}


def recorded(variant):
    """The run of a variant and legacy's stored trace of it."""
    if usable_batch(BATCH)[0] != BATCH:
        pytest.skip("the pixels of the bundled clip cannot be had here")
    spec = Request().variants(BATCH)[variant]
    folder = CACHE / "traces" / trace_key(spec, "legacy")
    if not (folder / "facts.json").exists():
        pytest.skip("no recording of legacy's step here; make it with: python -m parity run")
    return spec, folder


@pytest.mark.parametrize("name", PLACES)
def test_a_planted_bug_is_named(name):
    bug = BY_ID[name]
    spec, folder = recorded(bug.variant)
    with isolated_numerics(threads=1), planted(bug.edits):
        found = locate(spec, bug.stage, folder)
    assert found.file.endswith(f"modern/{bug.edits[0].file}")
    assert found.function == PLACES[name]


def test_modern_as_it_is_has_no_culprit():
    spec, folder = recorded("eval")
    with isolated_numerics(threads=1):
        for stage in ("codes", "texture", "projection"):
            assert locate(spec, stage, folder) is None
    worker._subject.cache_clear()
