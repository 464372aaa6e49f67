"""Defects that the detail fork is on record for, each shown to be there."""

import filecmp
import os

import numpy as np
import pytest
import torch
from torch import nn

from parity.legacy_detail_build import TREE, build_detail_trainer, import_legacy_detail
from parity.legacy_detail_partial import partial_step
from parity.legacy_detail_taps import preserved
from tests.legacy_detail.detail_setup import batch, setup


def codes(count=3):
    sizes = {"shape": 100, "tex": 50, "exp": 50, "pose": 6, "cam": 3}
    return {name: torch.zeros(count, size) for name, size in sizes.items()} | {"light": torch.zeros(count, 9, 3)}


def test_decode_reads_names_that_encode_does_not_write(trainer):
    with pytest.raises(KeyError, match="shapecode"):
        trainer.deca.decode(codes() | {"images": torch.zeros(3, 3, 224, 224)})


def test_encode_without_detail_has_nothing_to_return(trainer):
    with pytest.raises(UnboundLocalError, match="codedict"):
        trainer.deca.encode(torch.zeros(3, 3, 224, 224), {}, use_detail=False)


def test_construction_leaves_every_generator_seeded_with_zero():
    torch.manual_seed(123)
    trainer = build_detail_trainer(setup())
    state, numpy_draw = torch.get_rng_state(), np.random.rand()
    torch.manual_seed(0)
    np.random.seed(0)
    assert torch.equal(state, torch.get_rng_state())
    assert numpy_draw == np.random.rand()
    modes = {name: getattr(trainer.deca, name).training for name in ("E_flame", "AUNet", "emoca", "E_detail", "D")}
    assert modes == {"E_flame": False, "AUNet": False, "emoca": False, "E_detail": True, "D": True}
    acg = trainer.ACG
    parts = (acg, acg.backbone, acg.global_linear, acg.head)
    assert [part.training for part in parts] == [True, True, False, False]
    assert [list(box) for box in trainer.face_attr_mask] == [
        [50, 206, 50, 206],
        [68, 187, 53, 93],
        [61, 194, 87, 137],
        [71, 184, 131, 193],
    ]


def test_no_symmetry_weight_no_step(trainer):
    with preserved(trainer):
        trainer.cfg.loss.reg_sym = 0.0
        losses = partial_step(trainer, {"uv_z": torch.rand(3, 1, 256, 256)})["losses"]
        assert list(losses) == ["photo_detail", "z_reg", "z_diff", "au_feature_loss", "all_loss"]
        image, afn = torch.rand(3, 3, 224, 224), torch.rand(3, 27, 512)
        with pytest.raises(KeyError, match="z_sym"):
            trainer.discriminator_step(None, image, image, losses, {"afn": afn})


def test_ignored_settings_are_ignored(trainer):
    given = {"uv_z": torch.rand(3, 1, 256, 256), "input": torch.rand(3, 41), "target": torch.rand(3, 41)}
    with preserved(trainer):
        before = partial_step(trainer, given)["losses"]
        trainer.cfg.loss.AU_feature, trainer.cfg.loss.mrf = 99.0, 99.0
        after = partial_step(trainer, given)["losses"]
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert list(before) == ["photo_detail", "z_reg", "z_diff", "z_sym", "au_feature_loss", "all_loss"]
        trainer.cfg.train.lr = 7.0
        trainer.configure_optimizers()
        assert [group["lr"] for group in trainer.optimizer_G.param_groups + trainer.optimizer_D.param_groups] == [
            5e-6,
            1e-4,
        ]


def test_action_unit_loss_takes_probabilities_for_logits_and_pushes_them_up(trainer):
    target = torch.full((3, 41), 0.5, requires_grad=True)
    source = torch.full((3, 41), 0.5)
    nn.BCEWithLogitsLoss()(source, target).backward()
    assert torch.allclose(target.grad, -source / source.numel())


def test_generator_step_is_dead(trainer):
    with pytest.raises(AttributeError, match="'Trainer' object has no attribute 'D'"):
        trainer.generator_step(None, torch.zeros(1), {})


def test_checkpoint_holds_no_discriminator_and_resume_restores_no_optimizer(trainer, tmp_path, monkeypatch):
    small = ("E_detail", "D_detail", "D")
    monkeypatch.setattr(
        trainer.deca, "model_dict", lambda: {name: getattr(trainer.deca, name).state_dict() for name in small}
    )
    monkeypatch.setattr(trainer, "global_step", 7)
    with preserved(trainer):
        trainer.configure_optimizers()
        for module in (trainer.deca.D, trainer.deca.E_detail, trainer.deca.D_detail):
            for parameter in module.parameters():
                parameter.grad = torch.zeros_like(parameter)
        trainer.optimizer_D.step()
        trainer.optimizer_G.step()
        saved = trainer._checkpoint()
        assert set(saved["D"]) == {"state", "param_groups"}
        assert len(saved["G"]["state"]) == 36
        torch.save(saved, tmp_path / "model.tar")

        trainer.configure_optimizers()
        with torch.no_grad():
            trainer.deca.D.model[0].weight.fill_(0.5)
            trainer.deca.E_detail.conv1.weight.fill_(0.5)
        trainer.cfg.train.resume, trainer.cfg.output_dir = True, str(tmp_path)
        trainer.load_checkpoint()
        trainer.cfg.train.resume = False
        assert trainer.global_step == 7
        assert len(trainer.optimizer_G.state) == len(trainer.optimizer_D.state) == 0
        assert torch.equal(trainer.deca.E_detail.conv1.weight, saved["E_detail"]["conv1.weight"])
        assert bool((trainer.deca.D.model[0].weight == 0.5).all())


def test_second_stage_checkpoint_leaves_the_first_stage_graph_random(trainer, tmp_path):
    utils = import_legacy_detail("models.OpenGraphAU.utils")
    state = {f"module.{key}": torch.full_like(value, 2) for key, value in trainer.ACG.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "second_stage.pth")
    with torch.device("meta"):
        net = nn.Module()
    net.backbone, net.head = nn.Module(), nn.Module()
    net.backbone.conv1 = nn.Conv2d(3, 64, 7, bias=False)
    net.head.gnn = nn.Module()
    net.head.gnn.U = nn.Linear(512, 512)
    before = net.head.gnn.U.weight.detach().clone()
    utils.load_state_dict(net, tmp_path / "second_stage.pth")
    assert bool((net.backbone.conv1.weight == 2).all())
    assert torch.equal(net.head.gnn.U.weight, before)


def test_action_unit_settings_need_a_visible_device_list(monkeypatch):
    conf = import_legacy_detail("models.OpenGraphAU.conf")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(KeyError, match="CUDA_VISIBLE_DEVICES"):
        conf.get_config()
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_coarse_training_wants_a_network_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="resnet50_ft_weight"):
        build_detail_trainer(setup(overrides={"train.train_detail": False}))


def test_the_two_loss_files_are_one():
    folder = TREE / "decalib" / "utils"
    assert filecmp.cmp(
        folder / "lossfunc_AU_enc_dec_origT_adv.py", folder / "lossfunc_AU_enc_dec_origT_aucGAN.py", shallow=False
    )


def test_a_setting_that_legacy_lacks_is_refused():
    with pytest.raises(ValueError, match="no such key"):
        build_detail_trainer(setup(overrides={"loss.typo": 1.0}))


def test_a_subject_needs_geometry():
    with pytest.raises(ValueError, match="needs a head"):
        build_detail_trainer(setup(surface=None))


class Writer:
    def __init__(self):
        self.images = 0

    def add_image(self, *_, **__):
        self.images += 1


def run_loop(trainer, tmp_path, monkeypatch, *, start, count, writer=None):
    """The loop with its two steps replaced, so that only its own order is exercised."""
    shown = dict.fromkeys(("predicted_images", "predicted_detail_images", "predicted_deatil_shape"), batch().image)
    opdict = {"images": batch().image, "augmented_images": batch().image, "lmk": torch.zeros(3, 68, 3)}
    opdict |= shown | {"landmarks2d": torch.zeros(3, 68, 2)}
    calls = []

    def training_step(*_):
        calls.append("train")
        return {"z_reg": torch.tensor(1.0)}, opdict, None, {}

    def discriminator_step(*_):
        calls.append("discriminate")
        return torch.tensor(1.0), torch.tensor(2.0)

    def prepare_data():
        trainer.train_dataset, trainer.train_dataloader = range(count * trainer.batch_size), [{}]
        trainer.train_iter = iter(trainer.train_dataloader)

    (tmp_path / "train_images").mkdir()
    monkeypatch.setattr(trainer, "training_step", training_step)
    monkeypatch.setattr(trainer, "discriminator_step", discriminator_step)
    monkeypatch.setattr(trainer, "prepare_data", prepare_data)
    monkeypatch.setattr(trainer, "global_step", start)
    monkeypatch.setattr(trainer, "_checkpoint", lambda: {"global_step": trainer.global_step})
    monkeypatch.setitem(trainer.cfg, "output_dir", str(tmp_path))
    monkeypatch.setitem(trainer.cfg.train, "max_epochs", 1)
    monkeypatch.setitem(trainer.cfg, "exp_name", "test")
    if writer is not None:
        monkeypatch.setattr(trainer, "writer", writer, raising=False)
    trainer.fit()
    return calls


def test_every_checkpoint_is_also_kept_by_number(trainer, tmp_path, monkeypatch):
    calls = run_loop(trainer, tmp_path, monkeypatch, start=498, count=502)
    assert calls == ["train", "discriminate"] * 4
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["00000500.tar"]
    assert torch.load(tmp_path / "model.tar")["global_step"] == 500


def test_pictures_need_a_writer_whatever_the_configuration(trainer, tmp_path, monkeypatch):
    with pytest.raises(AttributeError, match="writer"):
        run_loop(trainer, tmp_path, monkeypatch, start=0, count=1)


def test_first_step_writes_a_picture(trainer, tmp_path, monkeypatch):
    writer = Writer()
    run_loop(trainer, tmp_path, monkeypatch, start=0, count=1, writer=writer)
    assert writer.images == 1
    assert (tmp_path / "train_images" / "000000.jpg").exists()


def test_an_empty_epoch_divides_by_zero(trainer, tmp_path, monkeypatch):
    with pytest.raises(ZeroDivisionError):
        run_loop(trainer, tmp_path, monkeypatch, start=0, count=0)
