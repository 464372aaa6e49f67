"""Real stages of the coarse pipeline against float64, and bugs planted in modern. About 5 GB of memory."""

import json

import pytest

from parity import modern_replay, worker
from parity.audit import CACHE, trace_key
from parity.pipelines import PIPELINES
from parity.trace import load_trace
from parity.truth import work
from parity.truth.assemble import collect, make_rows
from parity.truth.inputs import jittered
from parity.truth.run import exercised, not_exercised, spec_of
from parity.truth.schema import Word

pytestmark = pytest.mark.long
COARSE = PIPELINES["coarse"]
SPEC = spec_of(COARSE, "seeded")
GEOMETRY = ("codes", "flame", "texture", "projection", "normals", "raster", "attributes", "shading", "rendering")


@pytest.fixture(scope="module")
def reference():
    folder = CACHE / "traces" / trace_key(SPEC, "legacy")
    return folder if folder.exists() else worker.trace_to(SPEC, "legacy", folder)


def shading_rows(reference, inputs):
    """The stage `shading` on its recorded inputs, jittered."""
    import torch

    stage, results = COARSE.by_name["shading"], []
    recorded = worker.inputs_of(SPEC, stage, worker.recorded_world(SPEC, load_trace(reference)))
    for index in range(inputs):
        generator = torch.Generator().manual_seed(index)
        given = {name: jittered(tensor, generator) for name, tensor in recorded.items()}
        legacy = worker.replay(SPEC, "legacy", stage.name, given)
        results.append({"shading": work.asdict(work.measure_stage(SPEC, stage, given, legacy, index == 0))})
    return make_rows(*collect("coarse", results))


def test_geometry_is_the_same_error_from_one_truth(reference, tmp_path):
    out = work.measure_input(SPEC, reference, 1, GEOMETRY, True, tmp_path / "1.json")
    rows = make_rows(*collect("coarse", [json.loads(out.read_text())]))
    assert {row.stage for row in rows} == set(GEOMETRY)
    assert {row.word for row in rows} == {Word.SAME_ERROR}
    assert all(row.truths <= row.allowed for row in rows)
    assert not [row.name for row in rows if "not all float64" in row.reason]
    assert max(row.legacy[0] for row in rows) < 1e-3


def test_shading_summed_in_bfloat16_is_farther(reference, monkeypatch):
    import torch

    honest = modern_replay.sh_shading

    def rough(normals, light):
        if normals.dtype == torch.float64:
            return honest(normals, light)
        return honest(normals.bfloat16(), light.bfloat16()).float()

    monkeypatch.setattr(modern_replay, "sh_shading", rough)
    (row,) = shading_rows(reference, 20)
    assert (row.word, row.ratio > 1000) == (Word.FARTHER, True)
    floor = work.stage_floor(SPEC, reference, "shading", range(3))
    assert row.modern[0] > 5 * floor["shading_images"]


def test_a_constant_wrong_in_the_fourth_digit_is_another_formula(reference, monkeypatch):
    honest = modern_replay.sh_shading
    monkeypatch.setattr(modern_replay, "sh_shading", lambda normals, light: honest(normals, light * 1.0002))
    (row,) = shading_rows(reference, 2)
    assert (row.word, row.fails) == (Word.OTHER_FORMULA, True)


def test_what_is_not_exercised_is_said():
    detail = PIPELINES["detail"]
    assert "buffers" not in exercised(detail)
    assert any("buffers" in item["what"] for item in not_exercised(detail, detail.names))
    assert any("dropout" in item["what"] for item in not_exercised(COARSE, COARSE.names))
    assert any("face_ids" in item["what"] for item in not_exercised(COARSE, COARSE.names))
