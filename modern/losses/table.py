"""Which terms are summed, in which order and with which weight: one row per term, one table per training.

Names and order are legacy's (coarse spec 6; deca_base spec 9).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from modern.config import CoarseConfig
from modern.losses import action_units, deca, identity, landmarks, regularisation
from modern.losses.photometric import photometric
from modern.model import Decoding, Encoding

TOTAL = "all_loss"


@dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    """What frozen networks see in photograph and rendering; None where no active term asks.

    Attributes:
        afn_image: [B,27,512] action-unit features of the photograph, afn_rendered of the rendering.
        emotion_image: [B,2048] expression features, likewise.
        au_image: [B,41] action-unit probabilities, likewise.
        identity_image: [B,2048] VGGFace2 features; identity_overlay of the rendering over the photograph.
    """

    afn_image: Tensor | None = None
    afn_rendered: Tensor | None = None
    emotion_image: Tensor | None = None
    emotion_rendered: Tensor | None = None
    au_image: Tensor | None = None
    au_rendered: Tensor | None = None
    identity_image: Tensor | None = None
    identity_overlay: Tensor | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LossInputs:
    """Everything a term may read; ground truth is that of the centre frame.

    Attributes:
        encoding: codes.
        decoding: landmarks and picture.
        image_B3HW: photograph.
        landmark_B683: 68 landmarks.
        landmark_dense_B1053: 105 landmarks.
        predicted_B3HW: the rendering within the face-and-eye region; None without photometric term.
        pixel_weight: of the photometric term, [B,3,H,W] or [B,1,H,W]; None without it.
        features: of frozen networks.
    """

    encoding: Encoding
    decoding: Decoding
    image_B3HW: Tensor
    landmark_B683: Tensor
    landmark_dense_B1053: Tensor
    predicted_B3HW: Tensor | None
    pixel_weight: Tensor | None
    features: Features


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """One row.

    Attributes:
        name: key in the losses.
        weight: its factor.
        active: whether it takes part.
        function: its value before weighting.
    """

    name: str
    weight: Callable[[CoarseConfig], float]
    active: Callable[[CoarseConfig], bool]
    function: Callable[[LossInputs], Tensor]


def _term(name: str, setting: str, function: Callable[[LossInputs], Tensor], *, always: bool = False) -> Term:
    """A term with the weight `loss.<setting>`, active if that is positive (or always)."""
    return Term(
        name=name,
        weight=lambda config: getattr(config.loss, setting),
        active=lambda config: always or getattr(config.loss, setting) > 0,
        function=function,
    )


def _au_feature_weight(config: CoarseConfig) -> float:
    """Defect D12: weighted as the emotion term is."""
    return config.loss.action_unit_feature if "D12" in config.fixes else config.loss.emotion


def _uses_au(config: CoarseConfig) -> bool:
    return config.loss.needs_au_classifier


def _uses_au_distance(config: CoarseConfig) -> bool:
    return config.loss.au_focal and not config.loss.au_weighted


def _euler_jaw(config: CoarseConfig) -> bool:
    return config.model.jaw == "euler"


def _made(value: Tensor | None) -> Tensor:
    assert value is not None, "an active term reads what the step did not compute"
    return value


def _photometric(x: LossInputs) -> Tensor:
    return photometric(_made(x.predicted_B3HW), x.image_B3HW, _made(x.pixel_weight))


def _jaw(x: LossInputs) -> Tensor:
    return regularisation.half_sum_of_squares(x.encoding.codes.pose_B6[:, 3:])


# The original computes these two from Euler angles, with factors of its own.
_EULER_JAW_TERMS = (
    Term(
        name="reg_jawpose_roll",
        weight=lambda config: 100.0,
        active=_euler_jaw,
        function=lambda x: regularisation.jaw_roll(_made(x.encoding.euler_jaw_B3)),
    ),
    Term(
        name="reg_jawpose_close",
        weight=lambda config: 10.0,
        active=_euler_jaw,
        function=lambda x: regularisation.jaw_close(_made(x.encoding.euler_jaw_B3)),
    ),
)

COARSE_TERMS: tuple[Term, ...] = (
    Term(
        name="AUFLoss",
        weight=_au_feature_weight,
        active=lambda config: config.loss.action_unit_feature > 0,
        function=lambda x: action_units.feature_distance(_made(x.features.afn_image), _made(x.features.afn_rendered)),
    ),
    Term(
        name="au_lmk_loss",
        weight=lambda config: config.loss.au_landmark,
        active=_uses_au,
        function=lambda x: action_units.au_landmark(
            x.decoding.projected.landmarks_dense, x.landmark_dense_B1053, _made(x.features.au_image)
        ),
    ),
    Term(
        name="au_dist_loss",
        weight=lambda config: config.loss.au_distance,
        active=_uses_au_distance,
        function=lambda x: action_units.au_distance(x.decoding.projected.landmarks2d, x.landmark_B683),
    ),
    Term(
        name="au_loss",
        weight=lambda config: 1.0,
        active=_uses_au,
        function=lambda x: action_units.feature_distance(_made(x.features.au_image), _made(x.features.au_rendered)),
    ),
    _term(
        "landmark_dense_loss",
        "landmark_dense",
        lambda x: landmarks.weighted_l1(
            x.decoding.projected.landmarks_dense, x.landmark_dense_B1053, landmarks.DENSE_WEIGHTS_105
        ),
    ),
    _term(
        "eye_distance",
        "eye_distance",
        lambda x: landmarks.dense_eye_distance(x.decoding.projected.landmarks_dense, x.landmark_dense_B1053),
    ),
    _term(
        "lip_distance",
        "lip_distance",
        lambda x: landmarks.dense_lip_distance(x.decoding.projected.landmarks_dense, x.landmark_dense_B1053),
    ),
    _term(
        "landmark",
        "landmark",
        lambda x: landmarks.weighted_l1(
            x.decoding.projected.landmarks2d, x.landmark_B683, landmarks.CONTOUR_WEIGHTS_68
        ),
    ),
    _term(
        "relative_landmark",
        "relative_landmark",
        lambda x: landmarks.relative_landmark(x.decoding.projected.landmarks2d, x.landmark_B683),
    ),
    _term("photometric_texture", "photometric", _photometric),
    _term(
        "expression",
        "emotion",
        lambda x: action_units.feature_distance(_made(x.features.emotion_rendered), _made(x.features.emotion_image)),
    ),
    _term(
        "shape_reg_self",
        "reg_shape",
        lambda x: regularisation.half_sum_of_squares(x.encoding.codes.shape_B100),
    ),
    _term(
        "expression_reg_self",
        "reg_expression",
        lambda x: regularisation.half_sum_of_squares(x.encoding.codes.exp_B50),
        always=True,
    ),
    _term(
        "tex_reg",
        "reg_texture",
        lambda x: regularisation.half_sum_of_squares(x.encoding.codes.tex_B50),
        always=True,
    ),
    _term("light_reg", "reg_light", lambda x: regularisation.grey_light(x.encoding.codes.light_B93), always=True),
    _term("jaw_pose_reg_self", "reg_jaw", _jaw, always=True),
    *_EULER_JAW_TERMS,
)

DECA_COARSE_TERMS: tuple[Term, ...] = (
    _term(
        "landmark",
        "landmark",
        lambda x: landmarks.weighted_l1(x.decoding.projected.landmarks2d, x.landmark_B683, deca.WEIGHTS_68),
        always=True,
    ),
    _term(
        "eye_distance",
        "eye_distance",
        lambda x: deca.eye_distance(x.decoding.projected.landmarks2d, x.landmark_B683),
    ),
    _term(
        "lip_distance",
        "lip_distance",
        lambda x: deca.lip_distance(x.decoding.projected.landmarks2d, x.landmark_B683),
    ),
    _term("photometric_texture", "photometric", _photometric),
    _term(
        "identity",
        "identity",
        lambda x: identity.identity_distance(_made(x.features.identity_overlay), _made(x.features.identity_image)),
    ),
    _term(
        "shape_reg",
        "reg_shape",
        lambda x: regularisation.half_sum_of_squares(x.encoding.codes.shape_B100),
        always=True,
    ),
    _term(
        "expression_reg",
        "reg_expression",
        lambda x: regularisation.half_sum_of_squares(x.encoding.codes.exp_B50),
        always=True,
    ),
    _term(
        "tex_reg",
        "reg_texture",
        lambda x: regularisation.half_sum_of_squares(x.encoding.codes.tex_B50),
        always=True,
    ),
    _term("light_reg", "reg_light", lambda x: regularisation.grey_light(x.encoding.codes.light_B93), always=True),
    *_EULER_JAW_TERMS,
)

TABLES: dict[str, tuple[Term, ...]] = {"sequence": COARSE_TERMS, "deca": DECA_COARSE_TERMS}


def weighted_losses(inputs: LossInputs, config: CoarseConfig) -> dict[str, Tensor]:
    """Each active term times its weight, in the order of the table, and their plain sum `all_loss` last."""
    losses = {
        term.name: term.function(inputs) * term.weight(config)
        for term in TABLES[config.loss.table]
        if term.active(config)
    }
    return {**losses, TOTAL: sum(losses.values(), inputs.image_B3HW.new_zeros(()))}
