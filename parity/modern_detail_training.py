"""The clean detail stage trained by its own trainer, for one fresh process of `python -m parity reproduce`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

import modern.data.loaders
from modern.assets import load_head
from modern.clip import Identity
from modern.data.loaders import make_identity_loaders
from modern.data.sources import Source, split_clips
from modern.detail.networks import DetailEncoder, DisplacementGenerator, PatchDiscriminator
from modern.detail.step import DetailOutput, make_optimizers
from modern.train.detail_stage import AlternatingUpdate, IdentityStep
from modern.train.seeding import seed_everything
from parity.modern_detail_networks import DetailNetworks
from parity.modern_detail_taps import PAINTERS, forward_tensors, gradients
from parity.modern_training import fit
from parity.reproduce import chance
from parity.reproduce.numerics import moved_pixels, prepare
from parity.reproduce.operations import OperationLog
from parity.reproduce.place import Place
from parity.reproduce.run import Run
from parity.reproduce.setup import IMAGES, detail_setup
from parity.reproduce.watch import Watch
from parity.worker import HEAD

_FRESH = {"E_detail": DetailEncoder, "D_detail": DisplacementGenerator, "D": PatchDiscriminator}


def train(run: Run, place: Place, watch: Watch) -> None:
    """Train as `modern.train.run.train` does, and show every step to `watch`.

    Raises:
        ValueError: a kind of run that says nothing here.
    """
    if run.kind != "train":
        raise ValueError(f"the detail stage normalises with the statistics of its batch: {run.kind} cannot agree")
    seed_everything(run.seed)  # as modern.train.run does, whatever was seeded before
    networks = DetailNetworks(detail_setup(run, place, {}))
    if "initialisation" in run.unseeded:
        with chance.torch_aside():
            for name, fresh in _FRESH.items():
                chance.fill(networks.by_legacy_name[name], fresh())
    optimizers = make_optimizers(networks.model, networks.config)
    everything = list(networks.by_legacy_name.values())
    trained = [networks.by_legacy_name[name] for name in _FRESH]
    prepare(run, [optimizers.generator, optimizers.discriminator], trained, everything)
    split = split_clips((Source(root=place.clips / "identities", depth=1),), 0.0, run.seed)
    with chance.loading(run, modern.data.loaders, place.scratch / "loading"):
        loaders = make_identity_loaders(
            split,
            images=IMAGES,
            landmark_indices=load_head(HEAD).landmark_indices,
            workers=run.workers,
            seed=run.seed,
            size=run.raster,
        )
        update = AlternatingUpdate(networks.step, optimizers)
        fit(run, place, Observed(run, networks, update, watch), update, loaders, split)


class Observed(IdentityStep):
    """The detail step, seen by a watch."""

    def __init__(self, run: Run, networks: DetailNetworks, update: AlternatingUpdate, watch: Watch) -> None:
        super().__init__(networks.step)
        self._run, self._watch, self._by_name = run, watch, networks.by_legacy_name
        self._at = run.stop if run.resumed else 0
        self._log = OperationLog(run, watch, self._by_name)
        watch.put("initialisation", self._parameters())
        update.optimizers["optimizer_generator"].register_step_post_hook(self._updated)
        watch.begin_steps()

    def losses(self, samples: Sequence[Identity]) -> DetailOutput:
        """The step's own losses."""
        samples = [replace(one, image_K3HW=moved_pixels(self._run, one.image_K3HW)) for one in samples]
        first = samples[0]
        self._watch.put("data", {"image_224": first.image_K3HW, "mask": first.mask_KHW}, self._at)
        self._log.start(self._at)
        output = super().losses(samples)
        for stage, tensors in forward_tensors(output).items():
            self._watch.put(stage, tensors, self._at)
        return output

    def _parameters(self) -> dict[str, Tensor]:
        named = {name: self._by_name[name].named_parameters() for name in _FRESH}
        return {f"{name}/{key}": value for name, items in named.items() for key, value in items}

    def _updated(self, *_: Any) -> None:
        self._log.stop()
        self._watch.step_done()
        if self._at == 0:
            found = {name: gradients(self._by_name[name], name) for name in PAINTERS}
            named = {f"{name}/{key}": value for name, items in found.items() for key, value in items.items()}
            self._watch.put("g_gradients", named, self._at)
        if self._at == self._run.steps - 1:
            self._watch.put("weights", self._parameters(), self._at)
        self._at += 1
