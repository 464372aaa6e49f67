"""A pipeline of one stage whose two sides are plain functions, measured as the real ones are."""

from dataclasses import asdict

import torch

from parity import worker
from parity.stages import Pipeline, Stage
from parity.truth import work
from parity.truth.assemble import collect, make_rows
from parity.truth.double import Narrow, doubling

STAGE = Stage(name="toy", doc="sum of products", inputs={"x": "batch/x"})
PIPELINE = Pipeline(name="toys", tree="", variants={"toy": 0.0}, stages=(STAGE,), trained={})


def honest(x):
    """Root mean square of each row."""
    return (x * x).mean(dim=1).sqrt()


def numbers(index):
    """Input `index` of the plain functions."""
    return {"x": torch.rand(40, 300, generator=torch.Generator().manual_seed(index))}


def rows_of(monkeypatch, modern, *, legacy=honest, inputs=20, check=True, wrong_in_float64=None):
    """Rows of a run in which `legacy` and `modern` are measured; in float64 both are honest unless said otherwise."""
    sides32 = {"legacy": lambda inputs: legacy(inputs["x"]), "modern": lambda inputs: modern(inputs["x"])}
    sides64 = {"legacy": lambda inputs: honest(inputs["x"])}
    sides64["modern"] = lambda inputs: (wrong_in_float64 or honest)(inputs["x"])
    return measured(monkeypatch, sides32, sides64, numbers, inputs=inputs, check=check)


def measured(monkeypatch, sides32, sides64, given, *, inputs=20, check=True):
    """Rows of a run of functions of named inputs; sides: name -> function in float32, and the one that gives truth."""

    def replay(_, name, stage, values):
        return {"out": sides32[name](values)}

    def replay64(_, name, stage, values, face_ids):
        with doubling(), Narrow() as narrow:
            wide = {key: x.double() if x.is_floating_point() else x for key, x in values.items()}
            return {"out": sides64[name](wide)}, sorted(narrow.found)

    monkeypatch.setattr(worker, "replay", replay)
    monkeypatch.setattr(worker, "pipeline_of", lambda spec: PIPELINE)
    monkeypatch.setattr(work, "replay64", replay64)
    results = []
    for index in range(inputs):
        values = given(index)
        stage = work.measure_stage(None, STAGE, values, replay(None, "legacy", "toy", values), check)
        results.append({"toy": asdict(stage)})
    return make_rows(*collect("toys", results))
