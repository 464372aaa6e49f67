"""The audit, one item per (variant, mode, stage): `pytest parity/ -k "isolated and encoder"`."""

import pandas as pd
import pytest

from parity.audit import committed_floors
from parity.environment import platform_key
from parity.golden import GOLDENS
from parity.noise import C, read_floors
from parity.suite import failures, request_of, rows_of
from parity.verdict import Verdict


def test_stage(parity_item, parity_results):
    rows = rows_of(parity_results, parity_item)
    if not rows:
        pytest.skip(_why_nothing(parity_item, parity_results))
    broken = failures(rows)
    assert not broken, "\n".join(broken[:20])


def test_structure(parity_results):
    broken = [f"{part.name}: {part.detail}" for part in parity_results.structure if part.verdict is Verdict.DRIFT]
    assert not broken, "\n".join(broken)


def test_loss_table(parity_results, dataframe_regression, pytestconfig):
    """Legacy's loss values against the table recorded with the goldens, within the measured floor."""
    request, platform = request_of(pytestconfig), platform_key(parity_results.scope["device"])
    name = f"{parity_results.scope['batch'].replace(':', '_')}-losses-{parity_results.scope['steps']}"
    if not pytestconfig.getoption("--regen") and not (GOLDENS / platform / f"{name}.csv").exists():
        pytest.skip(f"no recorded table for {platform}; record it with: pytest parity/ --regen")
    if request.seed:
        pytest.skip("tables are recorded for seed 0")
    losses = [row for row in parity_results.rows if row.stage == "losses" and row.mode == "chained"]
    values = {f"{row.variant}/{row.tensor}": [row.worst_reference] for row in losses}
    tolerances = {
        key: {"atol": C * floor, "rtol": 0.0}
        for key, floor in _loss_floors(request, parity_results.scope["batch"]).items()
    }
    dataframe_regression.check(
        pd.DataFrame(values),
        fullpath=GOLDENS / platform / f"{name}.csv",
        tolerances=tolerances,
        default_tolerance={"atol": 0.0, "rtol": 0.0},
    )


def _loss_floors(request, batch):
    found = {}
    for variant, spec in request.variants(batch).items():
        path = committed_floors(spec, variant)
        floors = read_floors(path)[0]["chained"] if path.exists() else {}
        for key, floor in floors.items():
            if key.startswith("losses/"):
                found[f"{variant}/{key.removeprefix('losses/')}"] = floor.max_abs
    return found


def _why_nothing(item, results):
    if item[1].startswith("golden"):
        return f"golden {results.goldens['state']}: {results.goldens['detail']}"
    return "no tensor of this stage in this mode"
