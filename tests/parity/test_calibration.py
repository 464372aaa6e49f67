"""The evidence behind the factor c: ratios to the floor, false alarms, and a bug that must ring."""

import json
import math
from pathlib import Path

import pytest
import torch

from parity.calibration import ULP, calibrate, write_calibration
from parity.comparison import compare
from parity.noise import Floor
from parity.verdict import excess

VALUE = torch.linspace(1, 2, 64)
FLOORS = {"flame/vertices": Floor(1e-6, 2e-6, 10), "raster/face_ids": Floor(0.1, 0.0, 2)}


def moved(size: float) -> torch.Tensor:
    return VALUE * (1 + size)


def test_ratios_are_those_of_verdicts() -> None:
    drift, zero = compare(VALUE, moved(3e-6)), {"flame/vertices": Floor(0.0, 0.0, 0)}
    for floors in (FLOORS, zero):
        found = calibrate("eval", {"a cause": {"flame/vertices": drift}}, floors)
        assert found.largest["a cause"] == excess(drift, floors["flame/vertices"])
    assert math.isfinite(found.largest["a cause"])  # a floor of zero leaves the rounding of the result itself


def test_false_alarms_are_counted_and_named() -> None:
    drifts = {
        "nothing": {"flame/vertices": compare(VALUE, VALUE)},
        "2 threads": {"flame/vertices": compare(VALUE, moved(2e-6))},
        "a bug": {"flame/vertices@5": compare(VALUE, moved(1e-3)), "unknown/x": compare(VALUE, VALUE)},
    }
    found = calibrate("eval", drifts, FLOORS)
    assert found.comparisons == {"nothing": 1, "2 threads": 1, "a bug": 1}
    assert found.moved == {"nothing": 0, "2 threads": 1, "a bug": 1}
    assert [(alarm.cause, alarm.tensor) for alarm in found.alarms] == [("a bug", "flame/vertices@5")]
    assert found.rate == 0.5
    assert found.largest["nothing"] == 0
    assert found.by_stage["flame"]["2 threads"] < found.c < found.by_stage["flame"]["a bug"]


def test_fresh_draws_say_how_often_the_floor_itself_is_passed() -> None:
    draws = [{"flame/vertices": compare(VALUE, moved(size))} for size in (0.5e-6, 1.5e-6)]
    found = calibrate("eval", {}, FLOORS, draws)
    assert found.beyond == 0.5
    assert found.draws == 2
    assert found.largest[ULP] == excess(draws[1]["flame/vertices"], FLOORS["flame/vertices"]) > 1


def test_evidence_is_plain_json(tmp_path: Path) -> None:
    drifts = {"cause": {"flame/vertices": compare(VALUE, VALUE[:3])}}
    write_calibration(tmp_path / "calibration.json", [calibrate("eval", drifts, FLOORS)], {"batch": "seeded"})
    stored = json.loads((tmp_path / "calibration.json").read_text(), parse_constant=pytest.fail)
    assert stored["variants"]["eval"]["largest"]["cause"] == "inf"
    assert stored["variants"]["eval"]["rate"] == 1.0
