"""Time and memory of one training step of the detail stage, legacy against modern.

`python -m benchmarks.detail_step` runs each side in a process of its own, on the same batch and weights, and prints
seconds, peak memory, the two ratios, and whether both found the same losses. Building the subject is not timed; peak
memory is that of the whole process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from fixtures import seeded
from fixtures.weights import audited_detail_weights
from modern.assets import load_head
from parity.batch import load_batch
from parity.subject import DetailSetup, SyntheticSurface

_ROOT = Path(__file__).resolve().parents[1]
_SIDES = ("legacy", "modern")
_MAP, _RASTER = 256, 224


def main() -> None:
    """Parse the command line and run both sides, or one of them in this process."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--batch", default="carphone_0040", help="as `python -m parity` takes it")
    parser.add_argument(
        "--surface", action="store_true", help="a drawn surface instead of the bundled head: nothing is rasterised"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--side", choices=_SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(measure(arguments)))
        return
    found = {side: _in_process(side, arguments) for side in _SIDES}
    for side, figures in found.items():
        print(f"{side:7s} {figures['seconds']:7.1f} s   peak {figures['peak_gb']:5.2f} GB")
    for what, unit in (("seconds", "time"), ("peak_gb", "peak memory")):
        print(f"modern / legacy, {unit}: {found['modern'][what] / found['legacy'][what]:.2f}")
    print(f"losses: {_compared(found['legacy']['losses'], found['modern']['losses'])}")


def _compared(legacy: dict[str, float], modern: dict[str, float]) -> str:
    shared = [name for name in legacy if name in modern]
    unequal = [name for name in shared if legacy[name] != modern[name]]
    if not unequal:
        return f"all {len(shared)} the same ({', '.join(shared)})"
    return "; ".join(f"{name} {legacy[name]!r} against {modern[name]!r}" for name in unequal)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Build one side and run one step."""
    torch.set_num_threads(arguments.threads)
    subject, batch = _builder(arguments.side)(_setup(not arguments.surface)), load_batch(arguments.batch)
    start = time.perf_counter()
    losses = subject.step_once(batch)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": seconds, "peak_gb": peak, "losses": losses}


def _builder(side: str) -> Callable[[DetailSetup], Any]:
    builder: Callable[[DetailSetup], Any] = getattr(
        import_module(f"parity.{side}_detail_subject"), f"build_{side}_detail"
    )
    return builder


def _in_process(side: str, arguments: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.detail_step", "--side", side, "--batch", arguments.batch]
    command += ["--threads", str(arguments.threads), *(["--surface"] if arguments.surface else [])]
    environment = os.environ | {"OMP_NUM_THREADS": str(arguments.threads)}
    done = subprocess.run(command, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the {side} side failed with exit code {done.returncode}")
    figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def _setup(with_head: bool) -> DetailSetup:
    return DetailSetup(
        weights=audited_detail_weights(),
        head=load_head(_ROOT / "fixtures" / "assets" / "head.npz") if with_head else None,
        surface=None if with_head else drawn_surface(),
        expression_B50=seeded.uniform("exp", (3, 50), -0.6, 0.6),
    )


def drawn_surface() -> SyntheticSurface:
    """A bulging sheet that fills texture space, seen from the front."""
    axis = (2 * torch.arange(_MAP) + 1 - _MAP) / _MAP
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    bulge = (2 - u**2 - v**2) / 16
    normal = torch.nn.functional.normalize(torch.stack([u / 2, -v / 2, torch.ones_like(u)]), dim=0)
    pixel = (2 * torch.arange(_RASTER) + 1 - _RASTER) / _RASTER
    y, x = torch.meshgrid(pixel, pixel, indexing="ij")
    inside = (x**2 + y**2 < 0.64)[..., None]

    def thrice(values: torch.Tensor) -> torch.Tensor:
        return values.expand(3, *values.shape).contiguous()

    return SyntheticSurface(
        uv_vertices=thrice(torch.stack([u / 8, -v / 8, bulge])),
        uv_normals=thrice(normal),
        uv_projected=thrice(torch.stack([0.75 * u, 0.75 * v, torch.full_like(u, 10)])),
        uv_projected_normals=thrice(torch.where(u**2 + v**2 < 0.81, -0.5, 0.25).expand(3, -1, -1)),
        uv_face_eye_mask=(8 * (1 - 1.25 * u**2 - v**2)).clamp(0, 1)[None, None],
        fixed_uv_dis=seeded.uniform("fixed_uv_dis", (_MAP, _MAP), -0.001, 0.001),
        albedo=seeded.uniform("albedo", (3, 3, _MAP, _MAP), 0.2, 0.8),
        grid=thrice(torch.where(inside, 0.875 * torch.stack([x, y], dim=-1), 0.0)),
    )


if __name__ == "__main__":
    main()
