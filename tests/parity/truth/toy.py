"""A pipeline of one stage whose two sides are plain functions, measured as the real ones are."""

from dataclasses import asdict

import torch

from parity import worker
from parity.stages import Pipeline, Stage
from parity.truth import work
from parity.truth.assemble import collect, make_rows

STAGE = Stage(name="toy", doc="sum of products", inputs={"x": "batch/x"})
PIPELINE = Pipeline(name="toys", tree="", variants={"toy": 0.0}, stages=(STAGE,), trained={})


def honest(x):
    """Root mean square of each row."""
    return (x * x).mean(dim=1).sqrt()


def rows_of(monkeypatch, modern, *, legacy=honest, inputs=20, check=True, wrong_in_float64=None):
    """Rows of a run in which `legacy` and `modern` are measured; the latter's float64 twin is itself by default."""
    sides32 = {"legacy": legacy, "modern": modern}
    sides64 = {"legacy": honest, "modern": wrong_in_float64 or honest}

    def replay(_, name, stage, inputs):
        return {"out": sides32[name](inputs["x"])}

    def replay64(_, name, stage, inputs, face_ids):
        return {"out": sides64[name](inputs["x"].double())}, []

    monkeypatch.setattr(worker, "replay", replay)
    monkeypatch.setattr(worker, "pipeline_of", lambda spec: PIPELINE)
    monkeypatch.setattr(work, "replay64", replay64)
    results = []
    for index in range(inputs):
        x = {"x": torch.rand(40, 300, generator=torch.Generator().manual_seed(index))}
        results.append({"toy": asdict(work.measure_stage(None, STAGE, x, replay(None, "legacy", "toy", x), check))})
    return make_rows(*collect("toys", results))
