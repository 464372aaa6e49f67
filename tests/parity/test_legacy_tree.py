"""Facts of the reconstructed legacy tree that no recorded vector alone would explain."""

import torch

from parity.legacy_build import import_legacy
from parity.legacy_manifest import check_manifest


def test_the_tree_is_as_recorded():
    assert check_manifest() == []


def test_skinning_takes_several_heads_at_once():
    lbs = import_legacy("models.lbs").lbs
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    heads, vertices, joints = 4, 12, 5
    betas, pose = draw(heads, 6), draw(heads, 3 * joints)
    rest = {
        "shapedirs": draw(vertices, 3, 6),
        "posedirs": draw(9 * (joints - 1), 3 * vertices),
        "J_regressor": draw(joints, vertices).softmax(dim=1),
        "parents": torch.tensor([-1, 0, 1, 1, 1]),
        "lbs_weights": draw(vertices, joints).softmax(dim=1),
    }
    template = draw(1, vertices, 3)
    together, _ = lbs(betas, pose, template.expand(heads, -1, -1), **rest)
    alone = [lbs(betas[i : i + 1], pose[i : i + 1], template, **rest)[0] for i in range(heads)]
    torch.testing.assert_close(together, torch.cat(alone))
