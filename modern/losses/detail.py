"""Terms of the detail stage, one row each (detail spec 4.15). Axes: B images, S texels, H W rows and columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modern.config_detail import DetailConfig
from modern.detail.perceptual import mrf
from modern.losses.deca import shading_smoothness

TOTAL = "all_loss"
AU_FEATURE = "au_feature_loss"


@dataclass(frozen=True, kw_only=True, slots=True)
class DetailLossInputs:
    """Everything a term may read.

    Attributes:
        texture_patch_B3SS: shaded texture, the part with the face.
        texture_gt_patch_B3SS: the photograph there.
        visible_patch_B1SS: how far each texel is seen.
        uv_z_B1SS: displacement.
        uv_shading_B3SS: light on the displaced surface.
        unseen_B1SS: 1 where the texel is not seen.
        au_photograph_B41: action-unit probabilities of the photograph.
        au_painted_B41: of the painted picture.
        fixes: ids that are switched on.
        perceptual: network of the MRF term, if that is on.
    """

    texture_patch_B3SS: Tensor
    texture_gt_patch_B3SS: Tensor
    visible_patch_B1SS: Tensor
    uv_z_B1SS: Tensor
    uv_shading_B3SS: Tensor
    unseen_B1SS: Tensor
    au_photograph_B41: Tensor
    au_painted_B41: Tensor
    fixes: frozenset[str] = frozenset()
    perceptual: nn.Module | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DetailTerm:
    """One row.

    Attributes:
        name: key in the losses, legacy's.
        weight: its factor; the term is left out if it is 0.
        function: its value before weighting.
    """

    name: str
    weight: Callable[[DetailConfig], float]
    function: Callable[[DetailLossInputs], Tensor]


def photo_detail(x: DetailLossInputs) -> Tensor:
    """Mean absolute colour difference of the seen texels."""
    seen = x.visible_patch_B1SS
    return (x.texture_patch_B3SS * seen - x.texture_gt_patch_B3SS * seen).abs().mean()


def photo_mrf(x: DetailLossInputs) -> Tensor:
    """Patch statistics of the seen texels."""
    assert x.perceptual is not None, "the MRF term is on but its network was not given"
    seen = x.visible_patch_B1SS
    return mrf(x.perceptual, x.texture_patch_B3SS * seen, x.texture_gt_patch_B3SS * seen)


def displacement_size(x: DetailLossInputs) -> Tensor:
    """Mean absolute displacement, also outside the mask."""
    return x.uv_z_B1SS.abs().mean()


def asymmetry(x: DetailLossInputs) -> Tensor:
    """Difference from the mirror image where the texel is not seen; a sum over batch and texels (fix D43: a mean).

    The mirror image gets no gradient: what is seen pulls what is not, never the other way round.
    """
    difference = x.unseen_B1SS * (x.uv_z_B1SS - x.uv_z_B1SS.flip(-1).detach()).abs()
    return difference.mean() if "D43" in x.fixes else difference.sum()


def au_features(x: DetailLossInputs) -> Tensor:
    """Cross entropy of action units.

    The original takes probabilities for logits, and the photograph's for the prediction (defect D37): the gradient
    pulls every action unit of the painted picture up by its share in the photograph.
    """
    if "D37" in x.fixes:
        return F.binary_cross_entropy(x.au_painted_B41.clamp(0, 1), x.au_photograph_B41.detach().clamp(0, 1))
    return F.binary_cross_entropy_with_logits(x.au_photograph_B41, x.au_painted_B41)


DETAIL_TERMS: tuple[DetailTerm, ...] = (
    DetailTerm(name="photo_detail", weight=lambda config: config.loss.photometric, function=photo_detail),
    DetailTerm(
        name="photo_detail_mrf",
        weight=lambda config: config.loss.photometric * config.loss.mrf,
        function=photo_mrf,
    ),
    DetailTerm(name="z_reg", weight=lambda config: config.loss.displacement, function=displacement_size),
    DetailTerm(
        name="z_diff",
        weight=lambda config: config.loss.smoothness,
        function=lambda x: shading_smoothness(x.uv_shading_B3SS),
    ),
    DetailTerm(name="z_sym", weight=lambda config: config.loss.symmetry, function=asymmetry),
    DetailTerm(name=AU_FEATURE, weight=lambda config: config.loss.action_unit, function=au_features),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class DetailLosses:
    """Active terms in the order of the table.

    Attributes:
        unweighted: before weighting.
        weighted: after it.
    """

    unweighted: dict[str, Tensor]
    weighted: dict[str, Tensor]


def detail_losses(inputs: DetailLossInputs, config: DetailConfig) -> DetailLosses:
    """Each term of non-zero weight, in the order of the table."""
    rows = [(term, term.weight(config)) for term in DETAIL_TERMS]
    unweighted = {term.name: term.function(inputs) for term, weight in rows if weight}
    weighted = {term.name: unweighted[term.name] * weight for term, weight in rows if weight}
    return DetailLosses(unweighted=unweighted, weighted=weighted)


def content_loss(weighted: Mapping[str, Tensor]) -> Tensor:
    """Sum of weighted terms in their order; zero if there are none."""
    first, *others = weighted.values() if weighted else (torch.zeros(()),)
    for other in others:
        first = first + other
    return first
