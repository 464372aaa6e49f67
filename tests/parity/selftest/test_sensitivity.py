"""The smallest error that is drift, against the definition: just above it is, just below it is not."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parity.comparison import compare
from parity.noise import Floor
from parity.selftest.sensitivity import just_seen
from parity.verdict import Verdict, judge

TENSOR = torch.linspace(0.5, 3, 200)


def drifts(error, floor):
    return judge(compare(TENSOR, TENSOR * (1 + error)), floor)[0] is Verdict.DRIFT


@given(st.floats(1e-7, 1e-2), st.floats(1e-7, 1e-2))
def test_it_lies_between_drift_and_rounding(rel_l2, max_abs):
    floor = Floor(rel_l2, max_abs, 0)
    error = just_seen(TENSOR, "a/b", {"a/b": floor})
    assert drifts(1.05 * error, floor)
    assert not drifts(error / 1.05, floor)


@pytest.mark.parametrize(
    ("floor", "least", "most"), [(Floor(0, 0, 0), 1e-8, 1e-6), (Floor(10, 10, 0), math.inf, math.inf)]
)
def test_without_noise_the_last_place_is_seen_and_without_bound_nothing(floor, least, most):
    assert least <= just_seen(TENSOR, "a/b", {"a/b": floor}) <= most
