"""Whole made-up results for tests and for the sample report: `python -m tests.parity.report.sample FOLDER`.

Pictures are drawn; no person is in them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from parity.report import write_report
from parity.report.pictures import frame, picture
from parity.schema import Finding, Known, Results
from parity.verdict import Verdict, exit_code, worst
from tests.parity.report.browser import Browser, find_chromium
from tests.parity.report.synthetic import C, make_rows, summaries


def ball(texture: float = 0.0, size: int = 224) -> NDArray[np.float64]:
    """A shaded, striped ball, [3,size,size] in 0..1; `texture` moves the stripes a little."""
    y, x = np.mgrid[-1.15 : 1.15 : size * 1j, -1.15 : 1.15 : size * 1j]
    inside = x**2 + y**2 < 1
    z = np.sqrt(np.clip(1 - x**2 - y**2, 0, 1))
    light = np.clip(0.25 + 0.75 * (0.5 * z - 0.35 * x - 0.5 * y), 0, 1)
    stripes = 0.5 + 0.5 * np.sin(14 * np.arctan2(x, z + 0.4) + texture)
    colour = np.stack([0.75 + 0.15 * stripes, 0.62 - 0.1 * stripes, 0.5 + 0.1 * y])
    return np.where(inside, colour * light, 0.0)


def gradient(shift: float, size: int = 224) -> NDArray[np.float64]:
    """A drawn stand-in for an input frame, [3,size,size] in 0..1."""
    y, x = np.mgrid[0 : 1 : size * 1j, 0 : 1 : size * 1j]
    blob = np.exp(-(((x - 0.4 - shift) ** 2) + (y - 0.5) ** 2) / 0.06)
    return np.stack([0.2 + 0.5 * y + 0.2 * blob, 0.35 + 0.3 * x + 0.2 * blob, 0.55 - 0.2 * y + 0.3 * blob]).clip(0, 1)


def make_results(*, drift: bool = True, keys: int | None = None) -> Results:
    """Complete results; `drift` plants a texture that was resized differently."""
    rows = make_rows(drift=drift, keys=keys)
    first = next((r for r in rows if r.mode == "isolated" and r.verdict is Verdict.DRIFT), None)
    verdict = worst(row.verdict for row in rows)
    answer = (
        "Synthetic sample: not the same. Modern first departs from legacy in texture/albedo: 3.1e-03 relative L2, "
        "5.7e-07 allowed."
        if first
        else "Synthetic sample: the same. Every stage, loss, gradient and update of modern agrees with legacy."
    )
    shift = 0.06 if drift else 0.0
    return Results(
        answer=answer,
        verdict=verdict,
        exit_code=exit_code(row.verdict for row in rows),
        first_divergence=first.id if first else None,
        created="2026-11-24T10:22:00+00:00",
        command="python -m parity run --batch seeded --full",
        scope={
            "batch": "seeded",
            "batch_digest": "5f1e0c" + "9a" * 29,
            "device": "cpu",
            "isa": "AVX2",
            "threads": 1,
            "deterministic": True,
            "torch": "2.12.1",
            "raster": 224,
            "seed": 0,
            "steps": 6,
            "dropout": {"eval": 0.0, "dropout": 0.1},
        },
        environment={
            "python": "3.11.2",
            "torch": "2.12.1+cpu",
            "torchvision": "0.27.1+cpu",
            "pytorch3d": "0.7.9",
            "numpy": "2.3.5",
            "platform": "Linux-6.1-x86_64-glibc2.36",
            "cpu": "synthetic",
            "blas": "mkl 2025.3",
            "cudnn": "not available",
            "legacy digest": "a3" * 32,
            "modern digest": "7c" * 32,
        },
        stages=summaries(rows),
        rows=rows,
        structure=[
            Finding(name="codedict_keys", verdict=Verdict.IDENTICAL, detail="8 keys in the same order"),
            Finding(name="shapes", verdict=Verdict.IDENTICAL, detail="612 tensors with equal shapes and types"),
            Finding(
                name="mutated_inputs", verdict=Verdict.KNOWN, detail="legacy ['landmark', 'landmark_dense'], modern []"
            ),
        ],
        draws={
            name: [{"op": "dropout", "shape": [1, 4, 1024], "p": 0.1, "generator": "cpu"}] * 18
            + [{"op": "dropout", "shape": [1, 127], "p": 0.1, "generator": "cpu"}]
            for name in ("legacy (dropout)", "modern (dropout)")
        },
        pictures=[
            picture("Rendering", "Albedo sampled and shaded, as the losses see it.", ball(), ball(shift)),
            picture("Albedo", "The texture before shading.", gradient(0), gradient(shift / 6)),
        ],
        frames=[frame(f"frame {index}", gradient(0.05 * index)) for index in range(3)],
        skipped=[
            {"what": "prediction, isolated", "why": "it reads the updated weights, which are not recorded inputs"},
            {"what": "CUDA", "why": "no CUDA device here; agreement on CPU says nothing about GPU atomics"},
        ],
        known=[
            Known(
                id="D24",
                stage="losses",
                bound="legacy ['landmark', 'landmark_dense'], modern []",
                since="0.1.0",
                reason="legacy's landmark losses write the weighted visibility back into the batch",
                verdict=Verdict.KNOWN,
                figure="as registered",
            )
        ],
        goldens={"state": "missing", "path": "fixtures/golden/cpu-avx2", "detail": "none recorded for this platform"},
        floor={"source": "measured in this run", "draws": 12, "c": C, "detail": "1-ULP moves of every stage's inputs"},
        timings={"legacy trace": 61.2, "modern trace": 48.9, "isolated": 35.0, "noise floor": 120.4, "report": 0.8},
        resources={
            "legacy (eval)": {"seconds": 21.4, "peak_gb": 2.6},
            "modern (eval)": {"seconds": 9.8, "peak_gb": 1.9},
        },
    )


def write_sample(folder: Path) -> None:
    """The sample report and, where a browser is installed, its picture."""
    write_report(make_results(keys=6), folder / "report.html")
    if find_chromium():
        with Browser(width=1280, height=1010) as browser:
            browser.open(folder / "report.html")
            browser.screenshot(folder / "report.png")


if __name__ == "__main__":
    write_sample(Path(sys.argv[1]))
