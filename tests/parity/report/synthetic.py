"""Made-up rows with the shape of real ones: every stage, two variants, one planted drift and its echo downstream."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from parity.files import ROOT
from parity.pipelines import PIPELINES
from parity.schema import Histogram, Row, StageSummary
from parity.verdict import Verdict, worst

BY_NAME = PIPELINES["coarse"].by_name
C = 5.0
CULPRIT = "texture"
KEYS = json.loads((ROOT / "fixtures" / "conformance" / "coarse" / "keys.json").read_text())["BiViT"]
TERMS = {
    "AUFLoss": 0.418,
    "landmark_dense_loss": 1.962,
    "eye_distance": 0.137,
    "landmark": 2.481,
    "relative_landmark": 0.0716,
    "photometric_texture": 0.8934,
    "expression": 3.271,
    "expression_reg_self": 0.00213,
    "tex_reg": 0.00187,
    "light_reg": 0.0421,
    "jaw_pose_reg_self": 0.000316,
    "all_loss": 9.2815,
}
TENSORS: dict[str, dict[str, list[int]]] = {
    "encoder": {"parameters": [3, 236], "global_feature": [3, 2048]},
    "action_units": {"tokens": [3, 49, 512], "afn": [3, 27, 512]},
    "sequence": {"out": [1, 127]},
    "prediction": {"out": [1, 127]},
    "deca_codes": {
        "shape": [1, 100],
        "tex": [1, 50],
        "exp": [1, 50],
        "pose": [1, 6],
        "cam": [1, 3],
        "light": [1, 9, 3],
    },
    "codes": {"shape": [1, 100], "tex": [1, 50], "exp": [1, 50], "pose": [1, 6], "cam": [1, 3], "light": [1, 9, 3]},
    "flame": {
        "vertices": [1, 5023, 3],
        "landmarks2d": [1, 68, 3],
        "landmarks3d": [1, 68, 3],
        "landmarks_dense": [1, 105, 3],
    },
    "flame_deca": {"vertices": [1, 5023, 3]},
    "texture": {"albedo": [1, 3, 256, 256]},
    "projection": {
        "vertices": [1, 5023, 3],
        "landmarks2d": [1, 68, 2],
        "landmarks3d": [1, 68, 3],
        "landmarks_dense": [1, 105, 2],
    },
    "normals": {"normals": [1, 5023, 3], "projected_normals": [1, 5023, 3]},
    "raster": {"face_ids": [224, 224], "barycentric": [224, 224, 3]},
    "attributes": {
        "grid": [1, 224, 224, 2],
        "normal_images": [1, 3, 224, 224],
        "alpha_images": [1, 1, 224, 224],
        "pos_mask": [1, 1, 224, 224],
        "face_region": [1, 1, 224, 224],
    },
    "shading": {"shading_images": [1, 3, 224, 224]},
    "rendering": {"albedo_images": [1, 3, 224, 224], "images": [1, 3, 224, 224]},
    "features": {
        "afn_image": [1, 27, 512],
        "afn_rendered": [1, 27, 512],
        "emotion_image": [1, 2048],
        "emotion_rendered": [1, 2048],
    },
    "losses": {name: [] for name in TERMS},
    "code_gradients": {name: [1, 127] for name in TERMS},
    "gradients": {key: shape for key, (shape, _) in KEYS.items()},
    "adam": {
        f"{part}/{key}": shape for part in ("exp_avg", "exp_avg_sq", "parameter") for key, (shape, _) in KEYS.items()
    },
}
ECHO = ("rendering", "features", "losses", "code_gradients", "gradients", "adam", "prediction")
UNTOUCHED = (
    "landmark",
    "landmark_dense",
    "eye_distance",
    "relative_landmark",
    "expression_reg",
    "tex_reg",
    "light_reg",
    "jaw",
    "afn_image",
    "emotion_image",
)


class _Maker:
    """Draws rows reproducibly."""

    def __init__(self, *, drift: bool) -> None:
        self.drift = drift
        self.random = np.random.default_rng(7)

    def row(self, stage: str, tensor: str, mode: str, variant: str, step: int = 0) -> Row:
        shape = TENSORS[stage][tensor]
        floor = float(10 ** self.random.uniform(-7.6, -6.2))
        rel = self._rel_l2(stage, tensor, mode, floor)
        if stage == "raster" and tensor == "face_ids":
            rel = 0.0
        name = f"{stage}/{tensor}" + (f"@{step}" if step else "")
        id_ = "/".join([mode, *([variant] if variant != "eval" else []), name])
        verdict = Verdict.IDENTICAL if rel == 0 else Verdict.ROUNDING if rel <= C * floor else Verdict.DRIFT
        facts: dict[str, Any] = self._facts(stage, tensor, shape, rel)
        reason = "same bytes" if rel == 0 else f"{rel / floor:.2g} x noise floor"
        unit = BY_NAME[stage].unit
        return Row(
            id=id_,
            pipeline="coarse",
            stage=stage,
            tensor=tensor,
            mode=mode,
            variant=variant,
            step=step,
            shape=shape,
            dtype="int64" if tensor == "face_ids" else "float32",
            verdict=verdict,
            rel_l2=rel,
            floor=floor,
            reason=reason + (f", allowed {C:g}" if verdict is Verdict.DRIFT else ""),
            bound=C * floor,
            unit=unit,
            repeat=f"python -m parity run --batch seeded --stages {stage} --row {id_}",
            **facts,
        )

    def _rel_l2(self, stage: str, tensor: str, mode: str, floor: float) -> float:
        quiet = any(word in tensor for word in UNTOUCHED) and "gradient" not in stage
        if self.drift and stage == CULPRIT and mode in ("chained", "isolated"):
            return 3.07e-3
        if self.drift and stage in ECHO and mode == "chained" and not quiet:
            return float(10 ** self.random.uniform(-3.8, -2.2)) * (0.02 if "parameter/" in tensor else 1)
        exact = mode.startswith("repeat") or stage in ("encoder", "codes", "deca_codes", "sequence", "prediction")
        return 0.0 if exact or self.random.random() < 0.45 else floor * float(10 ** self.random.uniform(-1.6, 0.5))

    def _facts(self, stage: str, tensor: str, shape: list[int], rel: float) -> dict[str, Any]:
        count = math.prod(shape)
        scale = TERMS.get(tensor, 1.0) if stage == "losses" else 0.1 if "flame" in stage else 1.0
        differing = 0 if rel == 0 else max(1, int(count * min(1.0, 0.3 + rel * 200)))
        value = scale * float(self.random.uniform(0.3, 1)) if shape else scale
        delta = rel * scale * (4 if shape else 1)
        scalar_or_differs = rel > 0 or not shape
        return {
            "bitwise": rel == 0,
            "count": count,
            "differing": differing,
            "max_abs": delta,
            "mean_signed": delta * 0.02,
            "max_ulp": float(round(delta / 6e-8 * 3)),
            "scaled_ulp": delta / 1.2e-7,
            "cosine": 1 - rel**2 / 2,
            "worst_index": [int(self.random.integers(n)) for n in shape] if scalar_or_differs else None,
            "worst_reference": value if scalar_or_differs else None,
            "worst_candidate": value + delta if scalar_or_differs else None,
            "histogram": self._histogram(count, differing, delta) if rel else None,
        }

    def _histogram(self, count: int, differing: int, largest: float) -> Histogram:
        edges = 2.0 ** np.arange(25)
        top = math.log2(max(largest / 6e-8 * 3, 1.0))
        logs = np.clip(self.random.normal(top - 4, 2, differing), 0, min(top, 23.9))
        counts, _ = np.histogram(2**logs, bins=edges)
        return {"edges": edges.tolist(), "counts": counts.tolist(), "zeros": count - int(counts.sum())}


def make_rows(*, drift: bool = True, keys: int | None = None) -> list[Row]:
    """About 2,500 rows; `keys` limits the number of trainable parameters per table."""
    maker, rows = _Maker(drift=drift), []
    for variant in ("eval", "dropout"):
        for stage, tensors in TENSORS.items():
            parameters = stage in ("gradients", "adam")
            names = [name for name in tensors if not (parameters and keys and KEY_RANK[name.split("/")[-1]] >= keys)]
            modes = ["chained", "isolated"] + (["repeat:legacy", "repeat:modern"] if not parameters else [])
            rows += [
                maker.row(stage, name, mode, variant)
                for mode in modes
                if (stage, mode) != ("prediction", "isolated")
                for name in names
            ]
        rows += [maker.row("losses", name, "chained", variant, step=5) for name in TERMS]
    return rows


_KEY_ORDER = sorted(KEYS, key=lambda key: (".layers.0." not in key and "layers" in key, key))
KEY_RANK = {key: rank for rank, key in enumerate(_KEY_ORDER)}


def summaries(rows: list[Row]) -> list[StageSummary]:
    """One summary per stage of the contract."""

    def found(stage: str, mode: str) -> Verdict | None:
        words = [row.verdict for row in rows if row.stage == stage and row.mode == mode]
        return worst(words) if words else None

    return [
        StageSummary(
            pipeline="coarse",
            name=name,
            doc=stage.doc,
            unit=stage.unit,
            **{mode: found(name, mode) for mode in ("isolated", "chained")},
        )
        for name, stage in BY_NAME.items()
    ]
