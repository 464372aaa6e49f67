import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from parity.comparison import compare, ulp_distance

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
ARRAYS = hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=5), elements=FLOATS)


@given(ARRAYS)
def test_a_tensor_is_identical_to_itself(values):
    tensor = torch.from_numpy(values)
    drift = compare(tensor, tensor.clone())
    assert drift.bitwise
    assert drift.differing == drift.max_abs == drift.rel_l2 == drift.max_ulp == 0


@given(ARRAYS, st.data())
def test_figures_do_not_depend_on_the_layout(values, data):
    a = torch.from_numpy(values)
    b = torch.from_numpy(data.draw(hnp.arrays(np.float32, values.shape, elements=FLOATS)))
    order = list(reversed(range(a.dim())))
    plain = compare(a, b)
    strided = compare(a.permute(order).contiguous().permute(order), b)
    assert plain == strided


@given(FLOATS, FLOATS, FLOATS)
def test_ulp_distance_is_a_metric(x, y, z):
    a, b, c = (torch.tensor([value], dtype=torch.float32) for value in (x, y, z))
    assert ulp_distance(a, b) == ulp_distance(b, a)
    assert ulp_distance(a, c) <= ulp_distance(a, b) + ulp_distance(b, c)
    assert (ulp_distance(a, b) == 0) == (a == b)


@given(FLOATS, st.integers(0, 40))
def test_ulp_distance_counts_steps(x, steps):
    start = np.float32(x)
    end = start
    for _ in range(steps):
        end = np.nextafter(end, np.float32(np.inf))
    if np.isfinite(end):
        assert ulp_distance(torch.tensor(start), torch.tensor(end)) == steps


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_one_step_is_one_ulp_in_every_float_type(dtype):
    one = torch.tensor([1.0], dtype=dtype)
    above = one + torch.finfo(dtype).eps
    assert ulp_distance(one, above).item() == 1


def test_signed_zeros_are_equal_in_value_but_not_bitwise():
    drift = compare(torch.tensor([0.0, 1.0]), torch.tensor([-0.0, 1.0]))
    assert not drift.bitwise
    assert drift.differing == 0
    assert drift.max_ulp == 0


@pytest.mark.parametrize(
    ("candidate", "words"),
    [
        (torch.zeros(2, 3), "shape"),
        (torch.zeros(3, 2, dtype=torch.float64), "dtype"),
        (torch.full((3, 2), math.nan), "NaN"),
        (torch.full((3, 2), math.inf), "infinity"),
    ],
)
def test_structural_mismatch_is_never_a_number(candidate, words):
    drift = compare(torch.zeros(3, 2), candidate)
    assert words in drift.structural
    assert drift.max_abs is None


def test_equal_nan_and_infinity_patterns_compare_by_their_finite_part():
    a = torch.tensor([math.nan, math.inf, 1.0])
    drift = compare(a, torch.tensor([math.nan, math.inf, 1.5]))
    assert not drift.structural
    assert drift.max_abs == 0.5
    assert drift.worst_index == (2,)


def test_integers_and_booleans_are_compared_exactly():
    drift = compare(torch.tensor([[1, 2], [3, -1]]), torch.tensor([[1, 2], [5, -1]]))
    assert (drift.differing, drift.max_abs, drift.worst_index) == (1, 2.0, (1, 0))
    assert compare(torch.tensor([True]), torch.tensor([True])).bitwise


def test_worst_element_and_bias():
    drift = compare(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 2.5, 4.0]))
    assert drift.worst_index == (1,)
    assert (drift.worst_reference, drift.worst_candidate) == (2.0, 2.5)
    assert drift.mean_signed == pytest.approx(0.5 / 3)
    assert drift.rel_l2 == pytest.approx(0.5 / math.sqrt(21))


def test_empty_and_scalar_tensors():
    assert compare(torch.zeros(0), torch.zeros(0)).bitwise
    assert compare(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)).bitwise
    assert compare(torch.tensor(1.0), torch.tensor(2.0)).worst_index == ()


def test_inputs_are_left_alone():
    a, b = torch.randn(8), torch.randn(8)
    before = a.clone(), b.clone()
    compare(a, b)
    assert torch.equal(a, before[0])
    assert torch.equal(b, before[1])
