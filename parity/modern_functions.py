"""Small functions of modern by the names under which conform asks for them; nothing here is a stage of the audit."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from modern.camera import orthographic
from modern.losses import action_units, deca, landmarks
from modern.rotation import axis_angle_to_matrix, euler_to_axis_angle

Inputs = Mapping[str, Tensor]

# Legacy's name of a loss function -> the same function here.
LOSS_FUNCTIONS: Mapping[str, Callable[[Inputs], Tensor]] = {
    "batch_kp_2d_l1_loss": lambda x: landmarks.weighted_l1(x["pred68"], x["gt68"]),
    "landmark_loss": lambda x: landmarks.weighted_l1(x["pred68"], x["gt68"]),
    "landmark_HRNet_loss": lambda x: landmarks.weighted_l1(x["pred68"], x["gt68"], landmarks.CONTOUR_WEIGHTS_68),
    "weighted_landmark_loss": lambda x: landmarks.weighted_l1(x["pred105"], x["gt105"], landmarks.DENSE_WEIGHTS_105),
    "eyed_loss": lambda x: landmarks.dense_eye_distance(x["pred105"], x["gt105"]),
    "lipd_loss": lambda x: landmarks.dense_lip_distance(x["pred105"], x["gt105"]),
    "relative_landmark_loss": lambda x: landmarks.relative_landmark(x["pred68"], x["gt68"]),
    "related_au_landmark_loss": lambda x: action_units.au_distance(x["pred68"], x["gt68"]),
    "weighted_au_landmark_loss_b1": lambda x: action_units.au_landmark(x["pred105"], x["gt105"], x["au"]),
}

DECA_FUNCTIONS: Mapping[str, Callable[[Inputs], dict[str, Tensor]]] = {
    "rodrigues": lambda x: {"matrix": axis_angle_to_matrix(x["axis_angle"])},
    "euler": lambda x: {"axis_angle": euler_to_axis_angle(x["euler"])},
    "orth_proj": lambda x: {"out": orthographic(x["points"], x["cam"])},
    "erosion": lambda x: {"out": deca.eroded(x["image"])},
    "shading_smooth": lambda x: {"value": deca.shading_smoothness(x["image"])},
    "landmark_plain": lambda x: {"value": landmarks.weighted_l1(x["pred"], x["gt"])},
    "landmark_two_columns": lambda x: {"value": deca.unweighted_l1(x["pred"], x["gt"][..., :2])},
    "landmark_weighted": lambda x: {"value": landmarks.weighted_l1(x["pred"], x["gt"], deca.WEIGHTS_68)},
    "eyed": lambda x: {"value": deca.eye_distance(x["pred"], x["gt"])},
    "lipd": lambda x: {"value": deca.lip_distance(x["pred"], x["gt"])},
    "eye_dis": lambda x: {"distances": deca.eye_openings(x["pred"])},
    "lip_dis": lambda x: {"distances": deca.lip_openings(x["pred"])},
}
