"""One training step: from clips to weighted losses, and the update (coarse spec 6, 7).

Axes: B clips, T = 3 frames, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modern.clip import CENTRE, Clip
from modern.config import CoarseConfig
from modern.losses import deca
from modern.losses.table import Features, LossInputs, weighted_losses
from modern.model import CoarseModel, Decoding, Encoding
from modern.renderer import sh_shading


@dataclass(frozen=True, kw_only=True, slots=True)
class StepOutput:
    """What a step yields.

    Attributes:
        losses: weighted terms in order, `all_loss` last.
        encoding: what the networks said.
        decoding: the head and its picture.
        features: what frozen networks see in photograph and rendering.
        predicted_B3HW: the rendering within the face-and-eye region, if the photometric term is active.
    """

    losses: dict[str, Tensor]
    encoding: Encoding
    decoding: Decoding
    features: Features
    predicted_B3HW: Tensor | None


class CoarseStep:
    """Computes the losses of clips; whether dropout acts is up to the mode of `model`.

    Args:
        model: what is trained.
        config: which terms, with which weights.
        expression: frozen network of the emotion term.
        au_classifier: frozen network of the AU-dependent terms, needed only if they are on.
        identity: frozen VGGFace2 network, needed only for the identity term.

    Raises:
        ValueError: if an active term lacks its network.
    """

    def __init__(
        self,
        model: CoarseModel,
        config: CoarseConfig,
        expression: nn.Module | None,
        au_classifier: nn.Module | None = None,
        identity: nn.Module | None = None,
    ) -> None:
        self.model, self.config = model, config
        loss = config.loss
        self._expression = _frozen(expression, loss.table == "sequence" and loss.emotion > 0, "loss.emotion")
        self._au_classifier = _frozen(au_classifier, loss.needs_au_classifier, "loss.au_weighted or loss.au_focal")
        self._identity = _frozen(identity, loss.needs_identity, "loss.identity")
        self._uses_afn = loss.table == "sequence" and loss.action_unit_feature > 0

    def losses(self, clip: Clip | Sequence[Clip]) -> StepOutput:
        """Losses of one clip, or of several at once; the clips are not changed."""
        clips = [clip] if isinstance(clip, Clip) else list(clip)
        return self.terms(self.model.encode(torch.stack([one.image_T3HW for one in clips])), clips)

    def terms(self, encoding: Encoding, clips: Sequence[Clip]) -> StepOutput:
        """The part of `losses` after the networks."""
        decoding = self.model.decode(encoding.codes)
        mask_B3HW = torch.stack([one.mask_T3HW[CENTRE] for one in clips])
        predicted, pixel_weight = self._pixels(decoding, mask_B3HW)
        features = self._features(encoding, decoding)
        inputs = LossInputs(
            encoding=encoding,
            decoding=decoding,
            image_B3HW=encoding.image_B3HW,
            landmark_B683=torch.stack([one.landmark_T683[CENTRE] for one in clips]),
            landmark_dense_B1053=torch.stack([one.landmark_dense_T1053[CENTRE] for one in clips]),
            predicted_B3HW=predicted,
            pixel_weight=pixel_weight,
            features=features,
        )
        losses = weighted_losses(inputs, self.config)
        return StepOutput(
            losses=losses, encoding=encoding, decoding=decoding, features=features, predicted_B3HW=predicted
        )

    def _pixels(self, decoding: Decoding, mask_B3HW: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Rendering within the face-and-eye region, and the weight of each pixel in the photometric term.

        The original DECA compares the unlit albedo.
        """
        loss, rendering = self.config.loss, decoding.rendering
        if not loss.photometric > 0:
            return None, None
        region, alpha = self.model.face_eye_mask(rendering.surface), rendering.surface.alpha_images_B1HW
        if loss.table == "deca":
            mask_B3HW = deca.binary_mask(mask_B3HW)
            picture = rendering.albedo_images_B3HW
        else:
            picture = rendering.images_B3HW
        return picture * region * alpha, mask_B3HW if loss.segmentation else region * alpha

    def _features(self, encoding: Encoding, decoding: Decoding) -> Features:
        """Only what active terms read. Gradients flow through the renderings only."""
        image, rendered = encoding.image_B3HW, decoding.rendering.images_B3HW
        found: dict[str, Tensor] = {}
        if self._uses_afn:
            found["afn_image"] = encoding.afn_BTUC[:, CENTRE]
            found["afn_rendered"] = self.model.action_units(rendered)[1]
        if self._expression is not None:
            found["emotion_image"], found["emotion_rendered"] = _both(self._expression, image, rendered)
        if self._au_classifier is not None:
            with torch.no_grad():
                found["au_image"] = self._au_classifier(image)[1]
            found["au_rendered"] = self._au_classifier(rendered)[1]
        if self._identity is not None:
            overlay = self._overlay(encoding, decoding)
            found["identity_image"], found["identity_overlay"] = _both(self._identity, image, overlay)
        return Features(**found)

    def _overlay(self, encoding: Encoding, decoding: Decoding) -> Tensor:
        """The face over the photograph such that the identity term reaches its geometry only."""
        surface = decoding.rendering.surface
        shading = sh_shading(surface.normal_images_B3HW, encoding.codes.light_B93.detach())
        albedo = F.grid_sample(decoding.albedo_B3SS.detach(), surface.grid_BHW2, align_corners=False)
        return deca.overlay(albedo * shading, encoding.image_B3HW, self.model.face_eye_mask(surface))


def _both(network: nn.Module, image: Tensor, rendered: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        reference = network(image)
    return reference, network(rendered)


def _frozen(network: nn.Module | None, needed: bool, setting: str) -> nn.Module | None:
    if not needed:
        return None
    if network is None:
        raise ValueError(f"{setting} is on, but its network was not given; load it or set the weight to 0")
    return network.eval().requires_grad_(False)


def make_optimizer(model: CoarseModel, config: CoarseConfig) -> torch.optim.Adam:
    """Adam over BiViT's parameters with torch's default moments, no decay and no schedule (coarse spec 7)."""
    return torch.optim.Adam(model.sequence.parameters(), lr=config.train.lr, amsgrad=False)


def update(optimizer: torch.optim.Optimizer, total: Tensor) -> None:
    """Clear gradients, backpropagate `total`, update."""
    optimizer.zero_grad()
    total.backward()
    optimizer.step()
