"""Errors of stages split into what is born there, what came in, and its growth."""

from dataclasses import replace

import pytest

from parity.perturb import one_ulp
from parity.split import FROM_NOISE, MEASURED, ONE_ULP, split_errors
from parity.verdict import Verdict
from tests.parity.report.synthetic import make_rows


@pytest.fixture(scope="module")
def calm():
    rows = make_rows(drift=False, keys=2)
    return [
        replace(row, verdict=Verdict.IDENTICAL, bitwise=True, rel_l2=0.0, floor=None)
        for row in rows
        if row.step == 0 and row.variant == "eval"
    ]


def errors(rows, *sizes, floors=()):
    """Split errors by stage, of rows with these (mode, stage) -> relative L2 and floors."""
    given, noise = dict(sizes), dict(floors)
    changed = [
        replace(
            row,
            bitwise=(row.mode, row.stage) not in given,
            rel_l2=given.get((row.mode, row.stage), 0.0),
            floor=noise.get(row.stage),
        )
        for row in rows
    ]
    return {error.stage: error for error in split_errors(changed)}


def test_nothing_differs(calm):
    assert {error.origin for error in errors(calm).values()} == {"no error"}


def test_an_error_is_born_and_handed_on(calm):
    found = errors(
        calm,
        (("isolated", "texture"), 3e-3),
        (("chained", "texture"), 3e-3),
        (("chained", "rendering"), 6e-3),
    )
    texture, rendering = found["texture"], found["rendering"]
    assert (texture.origin, texture.injected, texture.inherited, texture.passed_on) == ("born here", 3e-3, 0.0, 0.0)
    assert (rendering.origin, rendering.injected, rendering.inherited) == ("inherited", 0.0, 3e-3)
    assert rendering.condition == pytest.approx(2.0)
    assert rendering.condition_from == MEASURED


def test_both_kinds_add_in_squares(calm):
    found = errors(
        calm, (("chained", "texture"), 1e-3), (("isolated", "rendering"), 3e-3), (("chained", "rendering"), 5e-3)
    )
    assert found["rendering"].passed_on == pytest.approx(4e-3)
    assert found["rendering"].condition == pytest.approx(4.0)
    assert found["rendering"].origin == "mostly inherited"


def test_without_an_error_that_came_in_the_noise_tells_the_condition(calm):
    found = errors(
        calm, (("isolated", "texture"), 1e-6), (("chained", "texture"), 1e-6), floors={"texture": 10 * ONE_ULP}
    )
    assert found["texture"].condition == pytest.approx(10)
    assert found["texture"].condition_from == FROM_NOISE


def test_one_mode_alone_separates_nothing(calm):
    alone = [row for row in calm if (row.mode, row.stage) != ("isolated", "texture")]
    assert errors(alone, (("chained", "texture"), 1.0))["texture"].origin.startswith("not separable")


def test_the_size_of_one_ulp_is_what_perturbing_does():
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(0)
    values = torch.exp2(torch.rand(200_000, generator=generator) * 20 - 10)
    moved = one_ulp(values, generator)
    relative = ((moved - values).double() / values.double()).square().mean().sqrt()
    assert float(relative) == pytest.approx(ONE_ULP, rel=0.02)
