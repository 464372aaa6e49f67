"""Bugs planted in a copy of modern are named at the right file and function, by a replay of their stage alone."""

import pytest
from tests.parity.test_planted_bugs import BUGS, floors_of, planted, reference, spec_of  # noqa: F401

from parity.culprit import locate
from parity.environment import isolated_numerics

pytestmark = pytest.mark.slow
BY_NAME = {bug.name: bug for bug in BUGS}
# Bug -> function that holds the operation (of an optimizer: that builds it).
PLACES = {
    "exp and tex swapped": "_split",
    "light as [3,9]": "_split",
    "no position": "BiViT.forward",
    "one landmark weight": "weighted_l1",
    "BGR kept": "FlameTexture.forward",
    "Adam eps": "make_optimizer",
    "condition order": "DisplacementGenerator.forward",
    "mask before the enlargement": "face_patches",
    "erosion 3x3": "eroded",
    "targets swapped": "_cross_entropy",
    "logits unswapped": "au_features",
    "Adam betas of D": "make_optimizers",
    "Adam betas of G": "make_optimizers",
}


@pytest.mark.parametrize("name", PLACES)
def test_a_planted_bug_is_named(name, spec_of, tmp_path, monkeypatch):  # noqa: F811
    bug = BY_NAME[name]
    spec = spec_of(bug.variant)
    folder = reference(spec)
    with isolated_numerics(threads=1), planted(bug, tmp_path, monkeypatch):
        found = locate(spec, bug.stage, folder)
    assert found.file.endswith(f"modern/{bug.file}")
    assert found.function == PLACES[name]


def test_modern_as_it_is_has_no_culprit(spec_of):  # noqa: F811
    spec = spec_of("eval")
    folder = reference(spec)
    with isolated_numerics(threads=1):
        for stage in ("codes", "texture", "projection"):
            assert locate(spec, stage, folder) is None
