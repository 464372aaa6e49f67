"""A checkpoint goes to modern and comes back, and the reconstructed trainer resumes from what came back."""

import pytest
import torch

from modern.checkpoint_transfer import export_detail, import_detail
from modern.config_detail import DetailConfig
from parity.legacy_detail_build import build_detail_trainer
from tests.legacy_detail.detail_setup import setup

NETWORKS = ("E_flame", "E_detail", "D_detail", "AUNet")


@pytest.mark.slow
def test_legacy_resumes_from_an_exported_checkpoint(tmp_path):
    trainer = build_detail_trainer(setup())
    trainer.configure_optimizers()
    for optimizer in (trainer.optimizer_D, trainer.optimizer_G):
        for parameter in optimizer.param_groups[0]["params"]:
            parameter.grad = torch.full_like(parameter, 0.1)
        optimizer.step()
    trainer.global_step = 500
    torch.save(trainer._checkpoint(), tmp_path / "lab.tar")
    saved = {name: clones(getattr(trainer.deca, name)) for name in NETWORKS}

    import_detail(tmp_path / "lab.tar", tmp_path / "modern", DetailConfig(), fresh_discriminator=True)
    export_detail(tmp_path / "modern", tmp_path / "model.tar")

    with torch.no_grad():
        for name in NETWORKS:
            for value in getattr(trainer.deca, name).state_dict().values():
                value.zero_()
    trainer.configure_optimizers()
    trainer.cfg.train.resume, trainer.cfg.output_dir = True, str(tmp_path)
    trainer.load_checkpoint()
    assert trainer.global_step == 500
    for name in NETWORKS:
        now = clones(getattr(trainer.deca, name))
        assert now.keys() == saved[name].keys()
        assert all(torch.equal(value, now[key]) for key, value in saved[name].items()), name


def clones(module):
    return {key: value.clone() for key, value in module.state_dict().items()}
