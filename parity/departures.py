"""Where modern computes the same formula by other operations than legacy, and why; the audit shows these sentences.

By pipeline; keys are stages of the contract, or conform's extra replays. With the shipped settings no stage of the
coarse contract has one.
"""

from __future__ import annotations

_CLASSIFIER = (
    "the action-unit classifier projects each node's tokens once and broadcasts them over the 729 pairs, "
    "instead of projecting them once per pair"
)

_COARSE = {
    "losses": f"only au_loss, which the shipped settings leave out: {_CLASSIFIER}",
    "code_gradients": f"only by way of au_loss, which the shipped settings leave out: {_CLASSIFIER}",
    "au_classifier": _CLASSIFIER,
    "shape_render": "the raster of the picture is used, for which x is multiplied and divided by the picture's width",
}
_DETAIL = {
    "au_probabilities": _CLASSIFIER,
    "map_gradients": f"by way of au_feature_loss: {_CLASSIFIER}",
    "map_cotangent": f"by way of au_feature_loss: {_CLASSIFIER}",
}
DEPARTURES: dict[str, dict[str, str]] = {"coarse": _COARSE, "detail": _DETAIL}
