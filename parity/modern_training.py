"""The clean coarse model trained by its own trainer: one fresh process of `python -m parity reproduce`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console
from torch import Tensor
from torch.optim import Optimizer

import modern.data.loaders
from modern.assets import load_head
from modern.clip import Clip
from modern.data.loaders import Loaders, make_loaders
from modern.data.sources import Source, Split, split_clips
from modern.sequence import BiViT
from modern.train.logging import RunLog
from modern.train.run_folder import open_run
from modern.train.schedule import Schedule
from modern.train.seeding import seed_everything
from modern.train.step import StepOutput, make_optimizer
from modern.train.trainer import Step, Trainer, Update
from parity.modern_networks import Networks
from parity.modern_taps import Taps, parameter_gradients
from parity.modern_updates import update_of_two
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
    """Train as `modern.train.run.train` does, and show every step to `watch`."""
    seed_everything(run.seed)  # as modern.train.run does, whatever was seeded before
    networks = networks_of(run, place, DROPOUT if run.kind == "train" else 0.0)
    model, optimizer = networks.model, make_optimizer(networks.model, networks.config)
    prepare(run, [optimizer], [model.sequence], [model, networks.expression])
    split = split_clips(sources(place), 0.0, run.seed)
    with chance.loading(run, modern.data.loaders, place.scratch / "loading"):
        _train(run, place, watch, networks, optimizer, split)


def _train(run: Run, place: Place, watch: Watch, networks: Networks, optimizer: Optimizer, split: Split) -> None:
    loaders = make_loaders(
        split,
        landmark_indices=load_head(HEAD).landmark_indices,
        workers=run.workers,
        seed=run.seed,
        size=run.raster,
        batch_size=1 if run.kind == "train" else 3,
    )
    if run.kind == "compose":
        compose(run, networks, moved(run, next(iter(loaders.train))), watch)
    elif run.kind in ("accumulate", "distribute"):
        update_of_two(run, networks, optimizer, moved(run, next(iter(loaders.train)))[:2], watch)
    else:
        step = Observed(run, networks, optimizer, watch)
        fit(run, place, step, optimizer, loaders, split)


def networks_of(run: Run, place: Place, dropout: float) -> Networks:
    """Frozen networks from seeded weights; BiViT as its constructor makes it."""
    overrides = {"model.image_size": run.raster}
    setup = Setup(
        weights=coarse_weights(place), head=load_head(HEAD), overrides=overrides, dropout=dropout, device=run.device
    )
    networks = Networks(setup)
    if "initialisation" in run.unseeded:
        with chance.torch_aside():
            chance.fill(networks.model.sequence, BiViT(dropout))
    if "dropout" in run.unseeded:
        sequence = networks.model.sequence
        sequence.forward = chance.drawn_aside(sequence.forward, "dropout")  # type: ignore[method-assign]
    return networks


def sources(place: Place) -> tuple[Source, ...]:
    """Clips as the shipped configuration lists them: MEAD once, Aff-Wild2 six times."""
    mead, wild = place.clips / "mead" / "masks", place.clips / "affwild" / "masks"
    return Source(root=mead, depth=4, limit=3000), Source(root=wild, depth=2, repeat=6)


class Observed:
    """The coarse step, seen by a watch."""

    def __init__(self, run: Run, networks: Networks, optimizer: Optimizer, watch: Watch) -> None:
        self._run, self._watch, self._own, self.model = run, watch, networks.step, networks.model
        self._at = run.stop if run.resumed else 0
        self._log = OperationLog(run, watch, {"model": self.model, "expression_net": networks.expression})
        watch.put("initialisation", dict(self.model.sequence.named_parameters()))
        optimizer.register_step_pre_hook(lambda *_: self._log.stop())
        optimizer.register_step_post_hook(self._updated)
        watch.begin_steps()

    def losses(self, clips: Sequence[Clip]) -> StepOutput:
        """The step's own losses."""
        clips = moved(self._run, clips)
        self._watch.put("data", data_tensors(clips[0]), self._at)
        self._log.start(self._at)
        output = self._own.losses(clips)
        for stage, tensors in Taps(self.model, output).forward().items():
            self._watch.put(stage, tensors, self._at)
        return output

    def _updated(self, *_: Any) -> None:
        self._watch.step_done()
        if self._at == 0:
            self._watch.put("gradients", parameter_gradients(self.model), self._at)
        if self._at == self._run.steps - 1:
            self._watch.put("weights", dict(self.model.sequence.named_parameters()), self._at)
        self._at += 1


def moved(run: Run, clips: Sequence[Clip]) -> list[Clip]:
    """The clips, with pixels moved by one unit in the last place if the run says so."""
    return [replace(clip, image_T3HW=moved_pixels(run, clip.image_T3HW)) for clip in clips]


def data_tensors(clip: Clip) -> dict[str, Tensor]:
    """A clip under the names of the lab's batch."""
    return {
        "image_224": clip.image_T3HW,
        "landmark": clip.landmark_T683,
        "landmark_dense": clip.landmark_dense_T1053,
        "mask": clip.mask_T3HW,
    }


def fit(run: Run, place: Place, step: Step, optimizer: Optimizer | Update, loaders: Loaders[Any], split: Split) -> None:
    """Modern's own loop to the run's last step, or to where it stops to be continued."""
    schedule = Schedule(
        steps_per_epoch=loaders.sampler.batches_per_epoch,
        max_epochs=_NEVER,
        max_steps=run.stop if run.stop and not run.resumed else run.steps,
        log_steps=_NEVER,
        vis_steps=_NEVER,
        checkpoint_steps=_NEVER,
    )
    quiet, config = Console(file=io.StringIO()), {"train": {"steps": run.steps}}
    folder = open_run(place.scratch / "run", config, split.record(), resume=run.resumed)
    log = RunLog(folder.logs, name="reproduce", tensorboard=False, console=quiet)
    trainer = Trainer(
        step,
        optimizer,
        loaders,
        schedule=schedule,
        run=folder,
        log=log,
        config=config,
        device=run.device,
        console=quiet,
    )
    trainer.resume()
    trainer.fit()
    log.close()


def compose(run: Run, networks: Networks, clips: Sequence[Clip], watch: Watch) -> None:
    """One forward pass of the first clip in the run's company; only its own rows are shown."""
    positions = COMPANY[run.company]
    log = OperationLog(run, watch, {"model": networks.model}, share=len(positions))
    log.start()
    output = networks.step.losses([clips[index] for index in positions])
    log.stop()
    row, batch = positions.index(0), len(positions)
    encoding, decoding = output.encoding, output.decoding
    shown = {
        "encoder": {"parameters": encoding.parameters_BT236, "global_feature": encoding.global_feature_BT2048},
        "action_units": {"tokens": encoding.tokens_BTPC, "afn": encoding.afn_BTUC},
        "sequence": {"out": encoding.out_B127},
        "codes": {name: getattr(encoding.codes, f"{name}_B{size}") for name, size in _CODES.items()},
        "flame": {"vertices": decoding.mesh.vertices_BV3},
        "texture": {"albedo": decoding.albedo_B3SS},
        "projection": {"vertices": decoding.projected.vertices_BV3},
        "rendering": {"images": decoding.rendering.images_B3HW},
    }
    for stage, tensors in shown.items():
        watch.put(stage, {name: value[row] for name, value in tensors.items() if len(value) == batch})


_CODES = {"shape": "100", "tex": "50", "exp": "50", "pose": "6", "cam": "3", "light": "93"}
