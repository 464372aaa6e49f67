"""Recipe of `vectors_deca_base`: coarse losses and small functions of the original DECA.

Inputs: fixtures/conformance/deca_base/README.md; formulas: deca_base spec 4, 6, 9.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from fixtures import seeded
from modern.assets import load_head
from parity.conform_material import Material
from parity.subject import Setup, Subject
from parity.weights import seeded_weights
from parity.worker import HEAD

# Vector -> replay `deca:<name>`, its output.
_VECTORS = {
    "rodrigues/out": ("rodrigues", "matrix"),
    "euler/axis": ("euler", "axis_angle"),
    "orth_proj/out": ("orth_proj", "out"),
    "erosion/out": ("erosion", "out"),
    "shading_smooth": ("shading_smooth", "value"),
    "landmark/plain": ("landmark_plain", "value"),
    "landmark/two_columns": ("landmark_two_columns", "value"),
    "landmark/weighted": ("landmark_weighted", "value"),
    "landmark/eyed": ("eyed", "value"),
    "landmark/lipd": ("lipd", "value"),
    "landmark/eye_dis": ("eye_dis", "distances"),
    "landmark/lip_dis": ("lip_dis", "distances"),
    "identity/loss": ("identity", "loss"),
    "identity/features_tar": ("identity", "features_tar"),
    "identity/grad_gen_strided16": ("identity", "grad_gen"),
}


class DecaBaseRecipe:
    """Computes deca_base vectors; the coarse networks a subject also holds take no part and get seeded weights.

    Args:
        material: names, shapes and stored inputs.
        build: makes the subject of a setup.
        device: where it runs.
    """

    face_ids: str | None = None

    def __init__(self, material: Material, build: Callable[[Setup], Subject], device: str = "cpu") -> None:
        self._material, self._device = material, device
        identity = seeded.state_dict("FRNet", material.keys["FRNet"], prefix=material.prefix)
        weights = {**seeded_weights(material.prefix), "FRNet": identity}
        self._subject = build(Setup(weights=weights, head=load_head(HEAD), device=device))
        self._cache: dict[str, dict[str, Tensor]] = {}

    def order(self, name: str) -> int:
        """All vectors come from one subject."""
        return 0

    def compute(self, name: str) -> Tensor:
        """The subject's value of vector `name`; raises KeyError if the README has no such vector."""
        if name in self._material.given:
            return self._material.given[name]
        if name not in _VECTORS:
            raise KeyError(f"the deca_base recipe knows no vector {name}")
        function, output = _VECTORS[name]
        if function not in self._cache:
            inputs = {key: tensor.to(self._device) for key, tensor in self._inputs(function).items()}
            self._cache[function] = dict(self._subject.replay(f"deca:{function}", inputs))
        value = self._cache[function][output]
        return value[..., ::16, ::16] if name.endswith("_strided16") else value

    def _inputs(self, function: str) -> Mapping[str, Tensor]:
        draw, given = self._material.draw, self._material.given
        if function == "rodrigues":
            return {"axis_angle": given["rodrigues/in"].clone()}
        if function == "euler":
            return {"euler": given["euler/in"].clone()}
        if function == "erosion":
            return {"image": given["erosion/in"].clone()}
        if function == "orth_proj":
            return {"points": draw("deca/ortho_x", (3, 10, 3), -1, 1), "cam": draw("deca/ortho_cam", (3, 3), 0.5, 2)}
        if function == "shading_smooth":
            return {"image": draw("deca/shading", (2, 3, 16, 17))}
        if function == "identity":
            return {"gen": self._picture("deca/id_gen"), "tar": self._picture("deca/id_tar")}
        return self._landmarks(function)

    def _landmarks(self, function: str) -> Mapping[str, Tensor]:
        draw = self._material.draw
        pred = draw("deca/pred68", (4, 68, 2), -1, 1)
        if function in ("eye_dis", "lip_dis"):
            return {"pred": pred}
        visible = (draw("deca/vis68", (4, 68, 1)) >= 0.2).float()
        gt = torch.cat([draw("deca/gt68", (4, 68, 2), -1, 1), visible], dim=2)
        return {"pred": pred, "gt": gt[..., :2].contiguous() if function == "landmark_two_columns" else gt}

    def _picture(self, name: str) -> Tensor:
        low = self._material.draw(f"{name}_low", (3, 3, 8, 8)).repeat_interleave(28, 2).repeat_interleave(28, 3)
        return 0.75 * low + 0.25 * self._material.draw(f"{name}_high", (3, 3, 224, 224))
