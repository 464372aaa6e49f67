"""The detail stage for the trainer: images of identities, discriminator and generator updated in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from modern.assets import load_head
from modern.build_detail import build_detail_model, build_detail_networks, load_pretrained, networks_of
from modern.clip import Identity
from modern.config_detail import DetailConfig
from modern.data.loaders import make_identity_loaders
from modern.data.sources import Split
from modern.detail.batch import DetailBatch
from modern.detail.step import DetailOptimizers, DetailOutput, DetailStep, make_optimizers
from modern.train.detail_pictures import detail_picture
from modern.train.stage import Stage


class IdentityStep:
    """The detail step on identities instead of images.

    Attributes:
        model: the detail model and the action-unit classifier, whose batch statistics move too.
    """

    def __init__(self, step: DetailStep) -> None:
        self._step = step
        self.model = nn.ModuleDict({"model": step.model, "au_classifier": step.au_classifier})

    def losses(self, samples: Sequence[Identity]) -> DetailOutput:
        """The forward pass; all images of all identities side by side."""
        return self._step.losses(
            DetailBatch(
                image_B3HW=torch.cat([sample.image_K3HW for sample in samples]),
                mask_BHW=torch.cat([sample.mask_KHW for sample in samples]),
                names=tuple(name for sample in samples for name in sample.names),
            )
        )


class AlternatingUpdate:
    """The step's two updates.

    Attributes:
        optimizers: both, by the names of their files.
    """

    def __init__(self, step: DetailStep, optimizers: DetailOptimizers) -> None:
        self._step, self._both = step, optimizers
        self.optimizers: Mapping[str, Optimizer] = optimizers_by_file(optimizers)

    def __call__(self, output: DetailOutput) -> dict[str, Tensor]:
        """Both updates; their losses."""
        return self._step.update(output, self._both)


def optimizers_by_file(optimizers: DetailOptimizers) -> dict[str, Optimizer]:
    """Both optimizers under the names that files use."""
    return {"optimizer_generator": optimizers.generator, "optimizer_discriminator": optimizers.discriminator}


def detail_stage(config: DetailConfig, split: Split, device: torch.device | str) -> Stage:
    """Load data and networks.

    Raises:
        ValueError: if a file or a folder of images cannot be used.
    """
    head = load_head(config.model.head, texture=config.model.texture)
    loaders = make_identity_loaders(
        split,
        images=config.data.images,
        landmark_indices=head.landmark_indices,
        batch_size=config.data.batch_size,
        workers=config.data.workers,
        seed=config.train.seed,
    )
    model, networks = build_detail_model(config, head).to(device), build_detail_networks(config)
    step = DetailStep(model, config, networks.au_classifier.to(device), networks.perceptual)
    optimizers = make_optimizers(model, config)
    pretrained, notes = config.model.pretrained, list[str]()
    if pretrained is not None:
        notes = load_pretrained(pretrained, networks_of(model), step.au_classifier, optimizers_by_file(optimizers))
    return Stage(
        step=IdentityStep(step),
        update=AlternatingUpdate(step, optimizers),
        loaders=loaders,
        frozen=() if networks.perceptual is None else (networks.perceptual.to(device),),
        draw=detail_picture,
        notes=tuple(notes),
    )
