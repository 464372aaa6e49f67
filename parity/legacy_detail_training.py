"""AUcGAN trained by its own loop, data set and constructors, for one fresh process of `python -m parity reproduce`.

What is replaced from outside: the root of the data (a literal), EMOCA, pictures nobody asked for, and repeated
rasterising of one mesh (values are those of the first equal call).
"""

from __future__ import annotations

import glob
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from modern.assets import load_head
from parity.legacy_detail_build import (
    NETWORKS,
    YML,
    build_detail_trainer,
    import_legacy_detail,
    network,
    write_detail_files,
)
from parity.legacy_detail_taps import (
    GENERATOR,
    Taps,
    adversarial_stages,
    cached_raster,
    forward_stages,
    gradients,
    tapped_detail,
)
from parity.reproduce import chance
from parity.reproduce.numerics import moved_pixels, prepare
from parity.reproduce.operations import OperationLog
from parity.reproduce.place import Place
from parity.reproduce.run import Run
from parity.reproduce.setup import IMAGES, detail_setup, detail_weights
from parity.reproduce.watch import Watch
from parity.worker import HEAD

_NEVER = 10**9
_TRAINED = (*GENERATOR, "D")


def train(run: Run, place: Place, watch: Watch) -> None:
    """Train as `main_train_EM_AU_enc_dec_origT_aucGAN.py` does, and show every step to `watch`.

    Raises:
        ValueError: a kind of run that this fork has no code for.
        RuntimeError: legacy's own, for a single picture.
    """
    if run.kind != "train":
        raise ValueError(f"AUcGAN has no code to {run.kind} an update, and its batch statistics mix all pictures")
    np.random.seed(0)  # main does, first of all
    trainer = _build(run, place)
    with ExitStack() as stack:
        stack.enter_context(_data(run, place))
        stack.enter_context(cached_raster())
        stack.enter_context(_picture_of_conditions(run))
        _Observer(run, trainer, watch)
        trainer.fit()


def _build(run: Run, place: Place) -> Any:
    folder = place.scratch / "run"
    folder.mkdir(exist_ok=True)
    head, points = load_head(HEAD), place.scratch / "landmark_indices.npz"
    np.savez(points, landmark_indices=head.landmark_indices.numpy())
    overrides = {
        "dataset.batch_size": 1,
        "dataset.K": IMAGES,
        "dataset.image_size": run.raster,
        "dataset.num_workers": run.workers,
        "dataset.mediapipePath": str(points),
        "train.max_epochs": 1,
        "train.max_steps": (run.stop + 1 if run.stop else run.steps) - 1,
        "train.checkpoint_steps": run.stop or _NEVER,
        "train.resume": run.resumed,
        "output_dir": str(folder),
    }
    files = place.once("detail files", lambda part: write_detail_files(head, detail_weights(place), part))
    trainer = build_detail_trainer(detail_setup(run, place, overrides, files))
    trainer.cfg.exp_name = YML.stem
    if "initialisation" in run.unseeded:
        with chance.torch_aside():
            deca = trainer.deca
            chance.fill(deca.E_detail, type(deca.E_detail)())
            chance.fill(deca.D_detail, type(deca.D_detail)())
            chance.fill(deca.D, type(deca.D)())
    trainer.deca.E_flame.encoder.avgpool = nn.AvgPool2d(run.raster // 32, stride=1)  # 7 x 7 at 224
    networks = [network(trainer, name) for name in NETWORKS]
    trained = [network(trainer, name) for name in _TRAINED]
    prepare(run, [trainer.optimizer_G, trainer.optimizer_D], trained, networks)
    return trainer


@contextmanager
def _data(run: Run, place: Place) -> Iterator[None]:
    """The literal of the data set leads into our tree; which pictures are taken may be made unpredictable."""
    module, literal = import_legacy_detail("datasets.build_datasets"), f"/data/identities_K{IMAGES}/"
    loaders = import_legacy_detail("trainer_EM_AU_enc_dec_origT_aucGAN")

    def moved(pattern: str) -> list[str]:
        return glob.glob(pattern.replace(literal, f"{place.clips}/identities/"))  # noqa: PTH207 - as legacy does

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(module, "glob", moved))
        stack.enter_context(chance.loading(run, loaders, place.scratch / "loading"))
        if "window" in run.unseeded:
            stack.enter_context(mock.patch.object(module, "random", chance.OtherRandom({"shuffle": "window"})))
        yield


def _picture_of_conditions(run: Run) -> AbstractContextManager[Any]:
    """While inside, D lays out its condition at the raster's size; 224 is a literal in its forward (D28)."""
    module = import_legacy_detail("models.decoders_AU_dec_aucGAN")

    def interpolate(input: Tensor, size: Any = None, *args: Any, **kwargs: Any) -> Tensor:
        return F.interpolate(input, (run.raster, run.raster) if size == (224, 224) else size, *args, **kwargs)

    return mock.patch.object(module, "F", SimpleNamespace(**{**vars(F), "interpolate": interpolate}))


class _Observer:
    """Wraps both steps so that their tensors are seen; the loop around them stays legacy's."""

    def __init__(self, run: Run, trainer: Any, watch: Watch) -> None:
        self._run, self._trainer, self._watch = run, trainer, watch
        self._own = {name: getattr(trainer, name) for name in ("training_step", "discriminator_step")}
        self._log = OperationLog(run, watch, {name: network(trainer, name) for name in NETWORKS})
        self._stack, self._taps = ExitStack(), Taps()
        if not run.resumed:
            watch.put("initialisation", self._parameters())
        trainer._visualize = lambda opdict: None
        self._install()
        watch.begin_steps()

    def _install(self) -> None:
        self._trainer.training_step, self._trainer.discriminator_step = self._training, self._adversarial

    def _training(self, batch: dict[str, Any], index: int) -> Any:
        at = self._trainer.global_step
        batch = {**batch, "image_224": moved_pixels(self._run, batch["image_224"])}
        self._watch.put("data", {name: value for name, value in batch.items() if isinstance(value, Tensor)}, at)
        for name in self._own:
            delattr(self._trainer, name)  # the taps look at legacy's own functions
        self._taps = self._stack.enter_context(tapped_detail(self._trainer))
        self._install()
        self._log.start(at)
        return self._own["training_step"](batch, index)

    def _adversarial(self, *arguments: Any) -> Any:
        at, trainer = self._trainer.global_step, self._trainer
        losses = self._own["discriminator_step"](*arguments)
        self._log.stop()
        self._stack.close()
        self._watch.step_done()
        faces = trainer.deca.render.faces.shape[1]
        for stage, tensors in (forward_stages(self._taps, True, faces) | adversarial_stages(self._taps)).items():
            self._watch.put(stage, tensors, at)
        if at == 0:
            found = {name: gradients(network(trainer, name)) for name in GENERATOR}
            named = {f"{name}/{key}": value for name, items in found.items() for key, value in items.items()}
            self._watch.put("g_gradients", named, at)
        if at == self._run.steps - 1:
            self._watch.put("weights", self._parameters(), at)
        self._taps.clear()
        return losses

    def _parameters(self) -> dict[str, Tensor]:
        named = {name: network(self._trainer, name).named_parameters() for name in _TRAINED}
        return {f"{name}/{key}": value for name, items in named.items() for key, value in items}
