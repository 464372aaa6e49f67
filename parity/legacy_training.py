"""AU_sequence trained by its own loop, data set and constructors: one fresh process of `python -m parity reproduce`.

What is replaced from outside: the roots of the data (literals in the lab's code), the raster (pictures are shrunk after
the data path, and E_flame pools over the whole smaller map), pictures and checkpoints nobody asked for.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from modern.assets import load_head
from parity.legacy_build import YML, build_trainer, import_legacy, write_files
from parity.legacy_replay import parameter_gradients
from parity.legacy_taps import forward_stages, tapped
from parity.reproduce import chance
from parity.reproduce.numerics import moved_pixels, prepare
from parity.reproduce.operations import OperationLog
from parity.reproduce.place import COMPANY, Place
from parity.reproduce.run import Run
from parity.reproduce.setup import coarse_weights
from parity.reproduce.watch import Watch
from parity.subject import Setup
from parity.worker import HEAD

DROPOUT = 0.1
_NEVER = 10**9


def train(run: Run, place: Place, watch: Watch) -> None:
    """Train as `main_AU_video_OnlyE2.py` does, and show every step to `watch`.

    Raises:
        ValueError: a kind of run that this fork has no code for.
        RuntimeError: legacy's own, for more than one clip in a batch.
    """
    if run.kind not in ("train", "compose"):
        raise ValueError(f"AU_sequence has no code to {run.kind} an update: its batch is one clip, in one process")
    trainer = _build(run, place)
    with ExitStack() as stack:
        stack.enter_context(_data(run, place))
        if run.kind == "compose":
            _compose(run, trainer, watch)
            return
        _observe(run, trainer, watch)
        if "order" in run.unseeded:
            stack.enter_context(chance.other_permutation("order"))  # the loader's own
        trainer.fit()


def _build(run: Run, place: Place) -> Any:
    folder = place.scratch / "run"
    folder.mkdir(exist_ok=True)
    head, points = load_head(HEAD), place.scratch / "landmark_indices.npz"
    np.savez(points, landmark_indices=head.landmark_indices.numpy())
    overrides = {
        "output_dir": str(folder),
        "dataset.image_size": run.raster,
        "dataset.num_workers": run.workers,
        "dataset.mediapipePath": str(points),
        "train.max_epochs": 1,
        "train.max_steps": (run.stop + 1 if run.stop else run.steps) - 1,
        "train.checkpoint_steps": run.stop or _NEVER,
        "train.resume": run.resumed,
    }
    weights = coarse_weights(place)
    files = place.once("files", partial(write_files, head, weights))
    setup = Setup(weights=weights, head=head, overrides=overrides, dropout=DROPOUT, device=run.device, files=files)
    trainer = build_trainer(setup)
    trainer.cfg.exp_name = YML.stem  # as main does
    model = trainer.mymodel
    if "initialisation" in run.unseeded:
        with chance.torch_aside():
            chance.fill(model.BiViT, type(model.BiViT)(num_features=model.n_param_OnlyE))
    if "dropout" in run.unseeded:
        model.BiViT.vit.forward = chance.drawn_aside(model.BiViT.vit.forward, "dropout")
    model.E_flame.encoder.avgpool = nn.AvgPool2d(run.raster // 32, stride=1)  # 7 x 7 at 224
    prepare(run, [trainer.opt], [model.BiViT], [model, trainer.expression_net])
    return trainer


@contextmanager
def _data(run: Run, place: Place) -> Iterator[None]:
    """The literals of the data set lead into our tree; window and order may be made unpredictable."""
    module = import_legacy("datasets.build_datasets_video")
    roots = {
        "/media/cine/de6afd1d-c444-4d43-a787-079519ace719/MEAD_Dataset_25/": place.clips / "mead",
        "/media/cine/First/Aff-wild2/": place.clips / "affwild",
    }
    sites = {name: site for name, site in {"randint": "window", "shuffle": "order"}.items() if site in run.unseeded}
    loaders = import_legacy("trainer_Video_OnlyExpress")
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(module, "glob", partial(_glob, roots)))
        stack.enter_context(chance.loading(run, loaders, place.scratch / "loading"))
        if sites:
            stack.enter_context(mock.patch.object(module, "random", chance.OtherRandom(sites)))
        yield


def _glob(roots: Mapping[str, Path], pattern: str) -> list[str]:
    for literal, root in roots.items():
        pattern = pattern.replace(literal, f"{root}/")
    return glob.glob(pattern)  # noqa: PTH207 - as legacy does, in whatever order


def _observe(run: Run, trainer: Any, watch: Watch) -> None:
    """Wrap the step so that its tensors are seen; the loop around it stays legacy's."""
    own_step, bivit = trainer.training_step, trainer.mymodel.BiViT
    if not run.resumed:
        watch.put("initialisation", dict(bivit.named_parameters()))
    trainer._visualize = lambda opdict: None
    log = OperationLog(run, watch, {"model": trainer.mymodel, "expression_net": trainer.expression_net})
    watch.begin_steps()

    def step(batch: dict[str, Any], index: int) -> Any:
        batch, at = _shrunk(batch, run), trainer.global_step
        watch.put("data", {name: value for name, value in batch.items() if isinstance(value, Tensor)}, at)
        log.start(at)
        with tapped(trainer) as calls:
            losses, opdict = own_step(batch, index)
        for stage, tensors in forward_stages(calls, opdict, losses).items():
            watch.put(stage, tensors, at)
        return losses, opdict

    def updated(*_: Any) -> None:
        at = trainer.global_step
        watch.step_done()
        if at == 0:
            watch.put("gradients", parameter_gradients(trainer), at)
        if at == run.steps - 1:
            watch.put("weights", dict(bivit.named_parameters()), at)

    trainer.training_step = step
    trainer.opt.register_step_pre_hook(lambda *_: log.stop())
    trainer.opt.register_step_post_hook(updated)


def _compose(run: Run, trainer: Any, watch: Watch) -> None:
    """One forward pass on the first clip of the loader in the run's company; more than one clip raises."""
    for module in trainer.mymodel.BiViT.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # masks depend on the shape of the batch, which is not what is asked here
    positions = COMPANY[run.company]
    trainer.batch_size = max(positions) + 1
    trainer.prepare_data()
    batch = _shrunk(next(trainer.train_iter), run)
    chosen = {name: value[positions] if isinstance(value, Tensor) else value for name, value in batch.items()}
    with tapped(trainer) as calls:
        losses, opdict = trainer.training_step(chosen, 0)
    for stage, tensors in forward_stages(calls, opdict, losses).items():
        watch.put(stage, tensors)


def _shrunk(batch: dict[str, Any], run: Run) -> dict[str, Any]:
    """The batch with pictures and masks at the raster's size; everything else as the data path gave it."""
    size = (run.raster, run.raster)
    small = dict(batch)
    small["image_224"] = F.interpolate(batch["image_224"].flatten(0, 1), size, mode="area").unflatten(0, (-1, 3))
    small["mask"] = F.interpolate(batch["mask"].flatten(0, 1), size, mode="nearest").unflatten(0, (-1, 3))
    small["image_224"] = moved_pixels(run, small["image_224"])
    return small
