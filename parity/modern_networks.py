"""The networks of modern, built from a setup; what no stage of a run reads is built when first asked for."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

from torch import nn

from modern.action_units import ActionUnitClassifier
from modern.checkpoint import load_legacy_state, load_legacy_weights
from modern.config import CoarseConfig, with_legacy_overrides
from modern.encoders import EmotionNet
from modern.losses.identity import IdentityNet
from modern.model import CoarseModel
from modern.train.step import CoarseStep
from parity.subject import Setup

_SOURCE = "weights of this audit"


class Networks:
    """Model, frozen networks and training step of one setup.

    Raises:
        ValueError: on an unknown override, or weights that do not fit.
    """

    def __init__(self, setup: Setup) -> None:
        config = with_legacy_overrides(CoarseConfig(), setup.overrides)
        self.config = replace(config, model=replace(config.model, dropout=setup.dropout))
        self._setup = setup
        self.model = CoarseModel(setup.head, self.config)
        load_legacy_weights(self.model, setup.weights, _SOURCE)
        self.model.to(setup.device)
        self.expression = self._frozen(EmotionNet(), "expression_net")
        needed = self.config.loss.needs_au_classifier
        self.step = CoarseStep(self.model, self.config, self.expression, self.au_classifier if needed else None)

    @cached_property
    def au_classifier(self) -> nn.Module:
        """MEFARG, `AU_net`."""
        return self._frozen(ActionUnitClassifier(imagenet="D13" in self.config.fixes), "AU_net")

    @cached_property
    def identity(self) -> nn.Module:
        """VGGFace2 network, `FRNet`; KeyError if the setup brings no weights for it."""
        return self._frozen(IdentityNet(), "FRNet")

    def _frozen(self, network: nn.Module, name: str) -> nn.Module:
        load_legacy_state(network, name, self._setup.weights[name], _SOURCE)
        return network.eval().requires_grad_(False).to(self._setup.device)
