"""The detail fork built for an audit: its own constructors, with paths, device and downloads replaced from outside.

Axes: B images, S = 256 texels, H = W = 224 pixels.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torchvision
from torch import Tensor, nn

from fixtures.legacy_files import write_legacy_detail_data
from modern.assets import HeadAssets
from parity.checkout import DETAIL
from parity.files import CACHE
from parity.legacy_build import apply_overrides, redirect
from parity.legacy_detail_surface import SurfaceFlame, SurfaceTexture, surface_renderer
from parity.legacy_tree import (
    PACKAGES,
    choose_tree,
    config_file,
    import_from,
    kept_switches,
    reconstruction,
    renderer_of,
)
from parity.subject import DetailSetup, StateDicts

TREE = reconstruction(DETAIL)
YML = TREE / DETAIL.yml
PACKAGE = PACKAGES[DETAIL]
_EMOCA_LOADER = "gdl_apps.EMOCA.utils.load"
_IMAGENET = "resnet50-19c8e357.pth"
_PATHS = {
    "topology_path": "head_template.obj",
    "dense_template_path": "texture_data_256.npy",
    "fixed_displacement_path": "fixed_displacement_256.npy",
    "flame_model_path": "generic_model.pkl",
    "flame_lmk_embedding_path": "landmark_embedding.npy",
    "face_mask_path": "uv_face_mask.png",
    "face_eye_mask_path": "uv_face_eye_mask.png",
    "mean_tex_path": "mean_texture.jpg",
    "tex_path": "FLAME_albedo_from_BFM.npz",
}
NETWORKS = ("E_flame", "E_detail", "D_detail", "D", "AUNet", "ACG")


class EmocaStandIn(nn.Module):
    """Returns a given expression where the lab's code asks EMOCA for one."""

    exp: Tensor

    def __init__(self, expression_B50: Tensor) -> None:
        super().__init__()
        self.register_buffer("exp", expression_B50.clone())

    def encode(self, batch: Any, training: bool = True) -> tuple[None, Tensor]:
        """EMOCA's interface: what it knows of the image (here nothing), and the expression [B,50]."""
        return None, self.exp.clone()


def import_legacy_detail(module: str) -> Any:
    """Import `decalib.<module>` of the detail fork; global switches it sets on import are put back."""
    with _emoca_importable():
        return import_from(DETAIL, module)


def detail_renderer() -> Any:
    """The module of the detail fork's renderer."""
    with _emoca_importable():
        return renderer_of(DETAIL)


@contextlib.contextmanager
def _emoca_importable() -> Iterator[None]:
    """Let `from gdl_apps.EMOCA.utils.load import load_model` succeed; the build replaces the function by a stand-in."""
    parts = _EMOCA_LOADER.split(".")
    names = [".".join(parts[: count + 1]) for count in range(len(parts))]
    stubs = {name: types.ModuleType(name) for name in names if name not in sys.modules}
    if _EMOCA_LOADER in stubs:
        stubs[_EMOCA_LOADER].load_model = None  # type: ignore[attr-defined]
    sys.modules.update(stubs)
    try:
        yield
    finally:
        for name in stubs:
            del sys.modules[name]


def detail_config(overrides: Mapping[str, Any], folder: Path) -> Any:
    """The run's yacs configuration: defaults, the inferred yml, paths into `folder`/data, then dotted `overrides`.

    Raises:
        ValueError: an override that the configuration does not have.
    """
    config = import_legacy_detail("utils.config").get_cfg_defaults()
    config.merge_from_file(str(config_file(DETAIL)))
    plain = {"output_dir": str(folder), "train.write_summary": False, "train.resume": False}
    plain |= {"pretrained_modelpath": str(folder / "data" / "model.tar")}
    plain |= {f"model.{key}": str(folder / "data" / name) for key, name in _PATHS.items()}
    redirect(config, folder / "data")
    apply_overrides(config, {**plain, **overrides})
    return config


def build_detail_trainer(setup: DetailSetup) -> Any:
    """Legacy's Trainer around its DECA, with the setup's weights in every network.

    The constructors run as they are in a folder that has their `./data`; what they load is then replaced by the exact
    weights of the setup, since the second-stage checkpoint fills the two action-unit networks only in part.

    Raises:
        ValueError: an override that the configuration does not have, or neither head nor surface.
    """
    if setup.head is None and setup.surface is None:
        raise ValueError("a detail subject needs a head, or a surface in its place")
    choose_tree(DETAIL, setup.legacy_root)
    deca, trainer_module = import_legacy_detail(DETAIL.deca), import_legacy_detail(DETAIL.trainer)
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="legacy-") as scratch, _prepared(Path(scratch), setup, deca):
        config = detail_config(setup.overrides, Path(scratch))
        trainer = trainer_module.Trainer(deca.DECA(config, setup.device), config, setup.device)
    _load(trainer, setup)
    if setup.parameters_B236 is not None:
        _replace_output(trainer.deca.E_flame, setup.parameters_B236.to(setup.device))
    return trainer


def _replace_output(module: nn.Module, output: Tensor) -> None:
    """`module` still runs, then returns `output`."""
    forward = module.forward

    def run(*args: Any) -> Tensor:
        forward(*args)
        return output.clone()

    module.forward = run


def network(trainer: Any, name: str) -> Any:
    """One of `NETWORKS` of a trainer."""
    return trainer.ACG if name == "ACG" else getattr(trainer.deca, name)


def _load(trainer: Any, setup: DetailSetup) -> None:
    for name in NETWORKS:
        if name in setup.weights:  # the others stay as their constructors made them
            network(trainer, name).load_state_dict(dict(setup.weights[name]))
    if "VGG19" in setup.weights:
        trainer.mrf_loss.featlayer.vgg19.load_state_dict(dict(setup.weights["VGG19"]))


def write_detail_files(head: HeadAssets | None, weights: StateDicts, folder: Path) -> None:
    """Write every file that legacy's constructors read below `./data`; without a head checkpoints only."""
    write_legacy_detail_data(head, weights, folder)
    torch.save({}, folder / _IMAGENET)  # its values would be overwritten by the setup's


@contextlib.contextmanager
def _prepared(folder: Path, setup: DetailSetup, deca: Any) -> Iterator[None]:
    """Working folder, files and process as legacy's constructors expect them; all put back afterwards."""
    if setup.files:
        (folder / "data").symlink_to(setup.files)
    else:
        write_detail_files(None if setup.surface else setup.head, setup.weights, folder / "data")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(torch.cuda.device_count()))))
    features = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["E"])
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.chdir(folder))
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(kept_switches())
        for patch in (
            mock.patch.dict(os.environ, {"CUDA_VISIBLE_DEVICES": visible}),
            mock.patch("torchvision.models.resnet50", return_value=torchvision.models.resnet50(weights=None)),
            mock.patch("torchvision.models.vgg19", return_value=types.SimpleNamespace(features=features)),
            # legacy's losses call .cuda() wherever they run
            mock.patch.object(nn.Module, "cuda", lambda module, *_: module.to(setup.device)),
            mock.patch.object(Tensor, "cuda", lambda tensor, *_: tensor.to(setup.device)),
            mock.patch.object(deca, "load_model", return_value=(EmocaStandIn(setup.expression_B50), None)),
            mock.patch("loguru.logger.add", return_value=0),
            mock.patch("loguru.logger.info"),
            *_surface_patches(folder, setup, deca),
        ):
            stack.enter_context(patch)
        yield


def _surface_patches(folder: Path, setup: DetailSetup, deca: Any) -> list[Any]:
    """FLAME, its texture and the renderer replaced by objects that return the tensors of the setup's surface."""
    surface, device = setup.surface, setup.device
    if surface is None:
        return []

    def setup_renderer(model: Any, _: Any) -> None:
        model.render = surface_renderer(detail_renderer(), surface, folder).to(device)
        model.uv_face_eye_mask = surface.uv_face_eye_mask.to(device)
        model.fixed_uv_dis = surface.fixed_uv_dis.to(device)

    return [
        mock.patch.object(deca, "FLAME", return_value=SurfaceFlame()),
        mock.patch.object(deca, "FLAMETex", return_value=SurfaceTexture(surface)),
        mock.patch.object(deca.DECA, "_setup_renderer", setup_renderer),
    ]
