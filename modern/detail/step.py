"""One training step of the detail stage: forward once, then discriminator, then generator (detail spec 4, 5).

No graph outlives its use: action units of the painted picture are judged and reduced to a gradient of the picture at
once; the discriminator sees a detached picture; the generator's own graph is walked once, from the picture's collected
gradient and from the terms in texture space. The numbers are those of the original, which keeps every graph.

Axes: B images, H W rows and columns, h w = H/8, W/8 patches.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modern.action_units import ActionUnitClassifier
from modern.config_detail import DetailConfig
from modern.detail.batch import DetailBatch
from modern.detail.model import DetailDecoding, DetailEncoding, DetailModel, pasted
from modern.detail.networks import condition_map
from modern.detail.visibility import Observation, face_patches, observe
from modern.losses.detail import AU_FEATURE, TOTAL, DetailLossInputs, content_loss, detail_losses

_REAL, _FAKE, _CONVINCING = 0.9, 0.1, 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class DetailOutput:
    """What the forward pass yields.

    Attributes:
        losses: weighted content terms in order, `all_loss` last; the action-unit term carries no graph any more.
        unweighted: the same before weighting, without the sum.
        encoding: what the networks said.
        decoding: the head and its picture.
        observation: the photograph in texture space.
        inputs: what the terms read.
        final_image_B3HW: the picture pasted into the photograph.
        au_cotangent_B3HW: gradient of the weighted action-unit term with respect to it.
    """

    losses: dict[str, Tensor]
    unweighted: dict[str, Tensor]
    encoding: DetailEncoding
    decoding: DetailDecoding
    observation: Observation
    inputs: DetailLossInputs
    final_image_B3HW: Tensor
    au_cotangent_B3HW: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class DiscriminatorUpdate:
    """Judgement before the update [B,1,h,w], and losses `real`, `fake`, `D_loss`."""

    real_B1hw: Tensor
    fake_B1hw: Tensor
    losses: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneratorUpdate:
    """Judgement by the updated discriminator [B,1,h,w], and losses `adv_G`, `content`, `G_loss`."""

    judged_B1hw: Tensor
    losses: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class StepReport:
    """All losses of a step by name, detached, and what the forward pass yielded."""

    losses: dict[str, Tensor]
    output: DetailOutput


@dataclass(frozen=True, kw_only=True, slots=True)
class DetailOptimizers:
    """The two optimizers, saved and restored together."""

    generator: torch.optim.Adam
    discriminator: torch.optim.Adam

    def state_dict(self) -> dict[str, Any]:
        """Both states."""
        return {"generator": self.generator.state_dict(), "discriminator": self.discriminator.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore both; the inverse of `state_dict`."""
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])


def make_optimizers(model: DetailModel, config: DetailConfig) -> DetailOptimizers:
    """Adam for detail encoder and generator together, Adam for the discriminator (detail spec 5)."""
    train, betas = config.train, (config.train.beta1, config.train.beta2)
    painters = [*model.detail_encoder.parameters(), *model.generator.parameters()]
    return DetailOptimizers(
        generator=torch.optim.Adam(painters, lr=train.lr_generator, betas=betas),
        discriminator=torch.optim.Adam(model.discriminator.parameters(), lr=train.lr_discriminator, betas=betas),
    )


class DetailStep:
    """Trains a detail model, one batch at a time.

    Args:
        model: what is trained.
        config: weights of the terms, fixes.
        au_classifier: frozen network of the action-unit term. Its trunk normalises with the statistics of the batch and
            their running values drift, as in the original (defect D39).
        perceptual: frozen network of the MRF term, needed only if that is on.

    Raises:
        ValueError: if the MRF term is on without its network.
    """

    def __init__(
        self,
        model: DetailModel,
        config: DetailConfig,
        au_classifier: ActionUnitClassifier,
        perceptual: nn.Module | None = None,
    ) -> None:
        if config.loss.mrf > 0 and perceptual is None:
            raise ValueError("loss.mrf is on, but its network was not given; load VGG19 or set the weight to 0")
        self.model, self.config = model, config
        self.au_classifier = au_classifier.requires_grad_(False).eval()
        self.au_classifier.trunk.train("D39" not in config.fixes)
        self.perceptual = None if perceptual is None else perceptual.eval().requires_grad_(False)

    def losses(self, batch: DetailBatch) -> DetailOutput:
        """The forward pass: content terms of a batch; the batch is not changed."""
        encoding = self.model.encode(batch.image_B3HW)
        decoding = self.model.decode(encoding.codes)
        surface = decoding.surface
        observation = observe(
            batch.image_B3HW,
            batch.mask_BHW,
            surface.uv_projected_B3SS,
            surface.uv_projected_normals_B3SS,
            self.model.geometry.uv_face_eye_mask_11SS,
        )
        with torch.no_grad():
            photograph = self.au_classifier(batch.image_B3HW)[1]
        return self.terms(encoding, decoding, batch, observation, photograph)

    def terms(
        self,
        encoding: DetailEncoding,
        decoding: DetailDecoding,
        batch: DetailBatch,
        observation: Observation,
        au_photograph_B41: Tensor,
    ) -> DetailOutput:
        """The part of `losses` that depends on the displacement."""
        final = self.final_image(decoding, batch)
        picture = final.detach().requires_grad_()
        painted, photographed, visible = face_patches(
            decoding.uv_texture_B3SS, observation.texture_B3SS, observation.visible_B1SS
        )
        inputs = DetailLossInputs(
            texture_patch_B3SS=painted,
            texture_gt_patch_B3SS=photographed,
            visible_patch_B1SS=visible,
            uv_z_B1SS=decoding.uv_z_B1SS,
            uv_shading_B3SS=decoding.uv_shading_B3SS,
            unseen_B1SS=observation.unseen_B1SS,
            au_photograph_B41=au_photograph_B41,
            au_painted_B41=self.au_classifier(picture)[1],
            fixes=self.config.fixes,
            perceptual=self.perceptual,
        )
        found = detail_losses(inputs, self.config)
        cotangent = _gradient(found.weighted.get(AU_FEATURE), picture)
        inputs = replace(inputs, au_painted_B41=inputs.au_painted_B41.detach())  # the last holder of that graph
        weighted, unweighted = (_without_graph(values, AU_FEATURE) for values in (found.weighted, found.unweighted))
        return DetailOutput(
            losses={**weighted, TOTAL: content_loss(_detached(weighted))},
            unweighted=_detached(unweighted),
            encoding=encoding,
            decoding=decoding,
            observation=observation,
            inputs=inputs,
            final_image_B3HW=final,
            au_cotangent_B3HW=cotangent,
        )

    def final_image(self, decoding: DetailDecoding, batch: DetailBatch) -> Tensor:
        """The picture pasted into the photograph; fix G31 keeps the photograph where the head is not hit."""
        mask_B1HW = batch.mask_BHW[:, None]
        if "G31" in self.config.fixes:
            mask_B1HW = mask_B1HW * decoding.surface.alpha_images_B1HW
        return pasted(decoding.picture_B3HW, batch.image_B3HW, mask_B1HW)

    def condition(self, output: DetailOutput) -> Tensor:
        """What the discriminator is told about the action units [B,3,H,W]."""
        return condition_map(output.encoding.codes.afn_BUC, output.final_image_B3HW.shape[-1])

    def update_discriminator(self, output: DetailOutput, optimizers: DetailOptimizers) -> DiscriminatorUpdate:
        """Learn to tell photographs from painted pictures; nothing flows back into the generator."""
        optimizers.discriminator.zero_grad()
        judgement = self.judge(output.encoding.image_B3HW, output.final_image_B3HW.detach(), self.condition(output))
        judgement.losses["D_loss"].backward()
        optimizers.discriminator.step()
        return DiscriminatorUpdate(
            real_B1hw=judgement.real_B1hw.detach(),
            fake_B1hw=judgement.fake_B1hw.detach(),
            losses=_detached(judgement.losses),
        )

    def judge(self, image_B3HW: Tensor, painted_B3HW: Tensor, condition_B3HW: Tensor) -> DiscriminatorUpdate:
        """The discriminator's judgement of photograph and painted picture, and its losses, with their graph."""
        real = self.model.discriminator(image_B3HW, condition_B3HW)
        fake = self.model.discriminator(painted_B3HW, condition_B3HW)
        return DiscriminatorUpdate(real_B1hw=real, fake_B1hw=fake, losses=self.discriminator_losses(real, fake))

    def discriminator_losses(self, real_B1hw: Tensor, fake_B1hw: Tensor) -> dict[str, Tensor]:
        """Cross entropy against smoothed targets, `real`, `fake` and their sum; fix D32 smooths one side only."""
        real = _cross_entropy(real_B1hw, _REAL)
        fake = _cross_entropy(fake_B1hw, 0.0 if "D32" in self.config.fixes else _FAKE)
        return {"real": real, "fake": fake, "D_loss": real + fake}

    def update_generator(self, output: DetailOutput, optimizers: DetailOptimizers) -> GeneratorUpdate:
        """Paint what the updated discriminator takes for a photograph; its own gradients are dropped first."""
        self.model.discriminator.zero_grad()
        optimizers.generator.zero_grad()
        judged, adversarial, cotangent = self.adversarial(output)
        roots, gradients = generator_roots(output, cotangent)
        torch.autograd.backward(roots, gradients)
        optimizers.generator.step()
        losses = self.generator_losses(adversarial, content_terms(_detached(output.losses)))
        return GeneratorUpdate(judged_B1hw=judged, losses=losses)

    def adversarial(self, output: DetailOutput) -> tuple[Tensor, Tensor, Tensor]:
        """Judgement [B,1,h,w], adversarial loss, and its gradient with respect to the final image."""
        picture = output.final_image_B3HW.detach().requires_grad_()
        judged = self.model.discriminator(picture, self.condition(output))
        loss = self.adversarial_loss(judged)
        return judged.detach(), loss.detach(), _gradient(loss, picture)

    def adversarial_loss(self, judged_B1hw: Tensor) -> Tensor:
        """How far the judgement is from `photograph`, not smoothed."""
        return _cross_entropy(judged_B1hw, _CONVINCING)

    def generator_losses(self, adversarial: Tensor, content: dict[str, Tensor]) -> dict[str, Tensor]:
        """`adv_G`, `content` and their sum `G_loss`."""
        total = content_loss(content)
        return {"adv_G": adversarial, "content": total, "G_loss": adversarial + total}

    def train_step(self, batch: DetailBatch, optimizers: DetailOptimizers) -> StepReport:
        """Both updates on one batch."""
        output = self.losses(batch)
        return StepReport(losses=_detached(output.losses | self.update(output, optimizers)), output=output)

    def update(self, output: DetailOutput, optimizers: DetailOptimizers) -> dict[str, Tensor]:
        """Discriminator first, then the generator against the updated discriminator (detail spec 5); their losses."""
        discriminator = self.update_discriminator(output, optimizers)
        generator = self.update_generator(output, optimizers)
        return {**discriminator.losses, **generator.losses}


def content_terms(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """`losses` without their sum."""
    return {name: value for name, value in losses.items() if name != TOTAL}


def generator_roots(output: DetailOutput, adversarial_B3HW: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Where the generator's graph is entered backwards, and with which gradients.

    Args:
        output: of the forward pass.
        adversarial_B3HW: gradient of the adversarial term with respect to the final image.
    """
    graphs = {name: value for name, value in content_terms(output.losses).items() if value.requires_grad}
    roots = [content_loss(graphs)] if graphs else []
    cotangent = adversarial_B3HW + output.au_cotangent_B3HW
    return [*roots, output.final_image_B3HW], [*(torch.ones_like(root) for root in roots), cotangent]


def _cross_entropy(probability_B1hw: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy(probability_B1hw, torch.full_like(probability_B1hw, target))


def _gradient(loss: Tensor | None, picture_B3HW: Tensor) -> Tensor:
    """Gradient of `loss`, whose graph is freed; gradients of parameters are not computed. Zero without a graph."""
    if loss is None or not loss.requires_grad:
        return torch.zeros_like(picture_B3HW)
    return torch.autograd.grad(loss, picture_B3HW)[0]


def _detached(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in losses.items()}


def _without_graph(values: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """`values` with one of them reduced to its number."""
    return {key: value.detach() if key == name else value for key, value in values.items()}
