"""The networks of modern's detail stage, built from a setup; what no stage reads is built when first asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from modern.action_units import ActionUnitClassifier
from modern.checkpoint import load_legacy_state
from modern.codes import FlameCodes
from modern.config import with_legacy_overrides
from modern.config_detail import DetailConfig
from modern.detail.expression import FixedExpression
from modern.detail.geometry import HeadGeometry, HeadSurface
from modern.detail.model import DetailModel
from modern.detail.perceptual import Vgg19Features
from modern.detail.step import DetailStep
from parity.subject import DetailSetup, SyntheticSurface

_SOURCE = "weights of this audit"


class SyntheticGeometry(nn.Module):
    """Yields given maps whatever the codes; a pixel at texture coordinate (0,0) counts as background.

    Attributes:
        maps: what it yields.
    """

    def __init__(self, surface: SyntheticSurface) -> None:
        super().__init__()
        self.uv_face_eye_mask_11SS = surface.uv_face_eye_mask
        self.fixed_displacement_SS = surface.fixed_uv_dis
        self.maps = HeadSurface(
            albedo_B3SS=surface.albedo,
            grid_BHW2=surface.grid,
            alpha_images_B1HW=(surface.grid != 0).any(dim=-1)[:, None].to(surface.grid.dtype),
            uv_vertices_B3SS=surface.uv_vertices,
            uv_normals_B3SS=surface.uv_normals,
            uv_projected_B3SS=surface.uv_projected,
            uv_projected_normals_B3SS=surface.uv_projected_normals,
        )

    def forward(self, codes: FlameCodes) -> HeadSurface:
        """The maps."""
        return self.maps


class DetailNetworks:
    """Model, frozen networks and training step of one setup.

    Raises:
        ValueError: on an unknown override, weights that do not fit, or neither head nor surface.
    """

    def __init__(self, setup: DetailSetup) -> None:
        self.config = with_legacy_overrides(DetailConfig(), setup.overrides)
        self.setup = setup
        self.model = DetailModel(_geometry(setup), self.config, expression=FixedExpression(setup.expression_B50))
        self.by_legacy_name: dict[str, nn.Module] = {
            "E_flame": self.model.encoder,
            "E_detail": self.model.detail_encoder,
            "AUNet": self.model.action_units,
            "D_detail": self.model.generator,
            "ACG": ActionUnitClassifier(imagenet="D13" in self.config.fixes),
            "D": self.model.discriminator,
        }
        for name, network in self.by_legacy_name.items():
            if name in setup.weights:  # the others stay as their constructors made them
                load_legacy_state(network, name, setup.weights[name], _SOURCE)
        if setup.parameters_B236 is not None:
            self.model.encoder.register_forward_hook(_Replaced(setup.parameters_B236))
        self.model.to(setup.device)
        classifier = self.by_legacy_name["ACG"].to(setup.device)
        assert isinstance(classifier, ActionUnitClassifier)
        self.step = DetailStep(self.model, self.config, classifier)

    @cached_property
    def perceptual(self) -> nn.Module:
        """VGG19 of the disabled MRF term; KeyError if the setup brings no weights for it."""
        network = Vgg19Features()
        load_legacy_state(network, "VGG19", self.setup.weights["VGG19"], _SOURCE)
        return network.eval().to(self.setup.device)

    @contextmanager
    def put_back(self) -> Iterator[None]:
        """Weights, buffers, gradients and modes are afterwards what they were before."""
        networks = list(self.by_legacy_name.values())
        modes = {module: module.training for network in networks for module in network.modules()}
        frozen = ("E_flame", "AUNet", "ACG")
        kept = [
            tensor
            for name, network in self.by_legacy_name.items()
            for tensor in (network.buffers() if name in frozen else network.state_dict().values())
        ]
        before = [tensor.detach().clone() for tensor in kept]
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, value in zip(kept, before, strict=True):
                    tensor.copy_(value)
            for network in networks:
                network.zero_grad()
            for module, training in modes.items():
                module.training = training


def _geometry(setup: DetailSetup) -> HeadGeometry | SyntheticGeometry:
    if setup.surface is not None:
        return SyntheticGeometry(setup.surface)
    if setup.head is None:
        raise ValueError("the setup has neither a head nor a surface that replaces it")
    return HeadGeometry(setup.head, setup.image_size)


class _Replaced:
    """Forward hook that keeps the global feature and replaces the parameters."""

    def __init__(self, parameters_B236: Tensor) -> None:
        self._parameters_B236 = parameters_B236

    def __call__(self, module: nn.Module, arguments: Any, output: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return self._parameters_B236.to(output[0].device), output[1]
