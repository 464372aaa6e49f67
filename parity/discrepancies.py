"""Registered discrepancies of modern against legacy: expected, bounded, and strict.

Each entry states the exact fact on both sides; if either side changes, or the difference vanishes, the audit fails, so
that this list cannot rot. Ids are those of the list of suspected defects in docs/defects.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Discrepancy:
    """One expected difference in a structural fact of the traces.

    fact: key of `Trace.structure`; legacy and modern: the value each side must show.
    """

    id: str
    stage: str
    fact: str
    legacy: Any
    modern: Any
    reason: str
    since: str
    pipeline: str = "coarse"


_CODES = ["shape", "tex", "exp", "pose", "cam", "light"]
_RECORD = "modern's codes are a typed record in one fixed order; the photograph travels beside them, not among them"

REGISTRY: tuple[Discrepancy, ...] = (
    Discrepancy(
        id="R01",
        stage="deca_codes",
        fact="codedict_keys",
        legacy=[*_CODES, "images"],
        modern=_CODES,
        reason=_RECORD,
        since="0.1.0",
    ),
    Discrepancy(
        id="R01",
        stage="codes",
        fact="codedict_our_keys",
        legacy=["tex", "exp", "light", "images", "shape", "cam", "pose"],
        modern=_CODES,
        reason=_RECORD,
        since="0.1.0",
    ),
    Discrepancy(
        id="D18",
        stage="codes",
        fact="aliases",
        legacy=[[f"codedict/{name}", f"codedict_our/{name}"] for name in ("shape", "cam")],
        modern=[[f"codedict/{name}", f"codedict_our/{name}"] for name in ("shape", "pose", "cam")],
        reason="legacy copies the pose and shares shape and camera; modern shares all three, since nothing writes them",
        since="0.1.0",
    ),
    Discrepancy(
        id="D24",
        stage="losses",
        fact="mutated_inputs",
        legacy=["landmark", "landmark_dense"],
        modern=[],
        reason="legacy's landmark losses write the weighted visibility back into the batch; modern does not",
        since="0.1.0",
    ),
    Discrepancy(
        id="R01",
        pipeline="detail",
        stage="codes",
        fact="codedict_keys",
        legacy=[*_CODES, "detailcode", "images", "AU_features", "afn"],
        modern=_CODES,
        reason=_RECORD,
        since="0.2.0",
    ),
    Discrepancy(
        id="D31",
        pipeline="detail",
        stage="discriminator",
        fact="draws",
        legacy=[
            {"op": op, "shape": [count], "p": None, "generator": "cpu"}
            for op, count in 2 * [("rand", 1), ("uniform", 1), ("randperm", 4), *[("uniform", 1)] * 5]
        ],
        modern=[],
        reason="legacy draws a picture transform twice, to show it and to ignore it; modern draws nothing in a step",
        since="0.2.0",
    ),
    Discrepancy(
        id="D36",
        pipeline="detail",
        stage="generator",
        fact="module_calls",
        legacy={"E_flame": 1, "E_detail": 2, "AUNet": 2, "D_detail": 1, "ACG": 2, "D": 3},
        modern={"E_flame": 1, "E_detail": 1, "AUNet": 1, "D_detail": 1, "ACG": 2, "D": 3},
        reason="legacy runs E_detail and AUNet twice with equal results; modern runs them once",
        since="0.2.0",
    ),
    Discrepancy(
        id="D39",
        pipeline="detail",
        stage="buffers",
        fact="batchnorm_updates",
        legacy={"AUNet": 2, "ACG": 2},
        modern={"AUNet": 1, "ACG": 2},
        reason="the second pass through AUNet moves its running statistics once more; no step reads them",
        since="0.2.0",
    ),
    Discrepancy(
        id="D40",
        pipeline="detail",
        stage="g_gradients",
        fact="unowned_gradients",
        legacy={"AUNet": 271, "ACG": 307},
        modern={"AUNet": 0, "ACG": 0},
        reason="legacy's backward passes pile up gradients on networks that no optimizer owns, and never clear them",
        since="0.2.0",
    ),
    Discrepancy(
        id="D29",
        pipeline="detail",
        stage="d_gradients",
        fact="leaked_gradients",
        legacy=["D_detail", "E_detail"],
        modern=[],
        reason="the fake image is not detached in legacy's discriminator step, so its loss reaches the generator",
        since="0.2.0",
    ),
    Discrepancy(
        id="D29",
        pipeline="detail",
        stage="g_gradients",
        fact="discriminator_gradients_after_step",
        legacy=True,
        modern=False,
        reason="legacy's generator step adds to the discriminator's gradients, which the next step clears",
        since="0.2.0",
    ),
    Discrepancy(
        id="D51",
        pipeline="detail",
        stage="d_adam",
        fact="optimizers",
        legacy={
            "G": {"lr": 5e-6, "betas": [0.5, 0.999], "tensors": 36},
            "D": {"lr": 1e-4, "betas": [0.5, 0.999], "tensors": 12},
        },
        modern={
            "G": {"lr": 5e-6, "betas": [0.5, 0.999], "tensors": 36},
            "D": {"lr": 1e-4, "betas": [0.5, 0.999], "tensors": 10},
        },
        reason="two of the discriminator's parameters (l1) are read by nothing; modern has no such layer",
        since="0.2.0",
    ),
)


@dataclass(frozen=True, kw_only=True)
class RecordedDiscrepancy:
    """Recorded vectors that modern, on purpose, does not meet; `conform` shows them as known and is strict about it.

    stem: of the vectors. pattern: found in a vector's name.
    modern: what must be found there instead: "absent" (modern yields no such tensor), "different" (it yields one
        beyond the bound), or the exact number. Anything else is a disagreement.
    """

    id: str
    stem: str
    pattern: str
    modern: float | str
    reason: str
    since: str


_LEAK = (
    "legacy's discriminator step reaches into the generator, because the fake image is not detached; modern's does not"
)
_TWICE = "legacy runs {} twice a step with equal results; modern runs it once"
_UNOWNED = "legacy leaves gradients, never cleared, in networks that no optimizer owns; modern takes none there"
_DISABLED = "built or defined, never part of a step (detail spec {}); modern has no such module"
DETAIL = "vectors_detail"
RECORDED: tuple[RecordedDiscrepancy, ...] = tuple(
    RecordedDiscrepancy(id=key, stem=DETAIL, pattern=pattern, modern=modern, reason=reason, since="0.2.0")
    for key, pattern, modern, reason in (
        ("D29", r"/(grad_slice|grads/\d)/after_D_backward/(E_detail|D_detail)(/|$)", "absent", _LEAK),
        ("D51", r"/optimizers/D/tensors$", 10.0, "legacy's discriminator has two parameters that nothing reads"),
        ("D36", r"/step\d/AUNet/", "different", _TWICE.format("AUNet") + ", so its running statistics move once"),
        ("D36", r"/calls/E_detail$", 1.0, _TWICE.format("E_detail")),
        ("D36", r"/calls/AUNet$", 1.0, _TWICE.format("AUNet")),
        ("D39", r"/bn_updates/AUNet$", 1.0, _TWICE.format("AUNet")),
        ("D40", r"/other_grads/(AUNet|ACG)$", 0.0, _UNOWNED),
        ("D38", r"^modules/AU_Feature_Loss", "absent", _DISABLED.format("4.1")),
        ("spec 2.7", r"^modules/(TDC|AUEncoder)", "absent", _DISABLED.format("2.7")),
        (
            "spec 2.1",
            r"^modules/E_detail/act_l2",
            "absent",
            "a look inside legacy's encoder; modern's is judged by its output",
        ),
    )
)


def recorded_discrepancy(stem: str, name: str) -> RecordedDiscrepancy | None:
    """What is registered for a recorded vector; None for most."""
    return next((entry for entry in RECORDED if entry.stem == stem and re.search(entry.pattern, name)), None)
