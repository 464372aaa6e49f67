"""The engine's laws: an exact oracle, compiled code against torch operations, layouts, threads, untouched inputs."""

import math
import os
import struct
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import parity.comparison
from parity.comparison import compare, ulp_distance
from parity.engine.blocks import tally_blocks
from parity.engine.compiled import tally_compiled
from parity.engine.formats import WORDS
from parity.engine.plane import plane_of

FORMATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
# sign, exponent and fraction bits: what a float is, without asking a library
LAYOUT = {torch.float64: (11, 52), torch.float32: (8, 23), torch.float16: (5, 10), torch.bfloat16: (8, 7)}
MANY = settings(deadline=None, max_examples=60)


def fields(word, dtype):
    """Sign, exponent field, fraction field of a word."""
    exponent, fraction = LAYOUT[dtype]
    return word >> (exponent + fraction), (word >> fraction) & ((1 << exponent) - 1), word & ((1 << fraction) - 1)


def exactly(word, dtype):
    """The number a word stands for as a fraction; None if it is not finite."""
    exponent_bits, fraction_bits = LAYOUT[dtype]
    sign, exponent, fraction = fields(word, dtype)
    bias = (1 << (exponent_bits - 1)) - 1
    if exponent == (1 << exponent_bits) - 1:
        return None
    scale = Fraction(2) ** ((exponent or 1) - bias - fraction_bits)
    return (-1) ** sign * scale * (fraction + ((1 << fraction_bits) if exponent else 0))


def steps(a, b, dtype):
    """Representable numbers between two words, counted outwards from zero."""
    width = sum(LAYOUT[dtype])
    rank = [(-1) ** (word >> width) * (word & ((1 << width) - 1)) for word in (a, b)]
    return abs(rank[0] - rank[1])


def tensor_of(words, dtype):
    size = (1 + sum(LAYOUT[dtype])) // 8
    code = {8: "Q", 4: "I", 2: "H"}[size]
    data = bytearray(struct.pack(f"<{len(words)}{code}", *words))
    return torch.frombuffer(data, dtype=WORDS[dtype]).view(dtype)


def word_lists(dtype, count=2):
    """Lists of words of equal length: any pattern, often special ones, often near each other."""
    width = sum(LAYOUT[dtype])
    top = ((1 << LAYOUT[dtype][0]) - 1) << LAYOUT[dtype][1]  # infinity
    special = [0, 1, top, top - 1, top + 1, top | 1 << (LAYOUT[dtype][1] - 1)]
    word = st.one_of(st.sampled_from([*special, *(1 << width | x for x in special)]), st.integers(0, (2 << width) - 1))
    return st.lists(st.tuples(*[word] * count), min_size=1, max_size=30)


@pytest.mark.parametrize("dtype", FORMATS)
@MANY
@given(data=st.data())
def test_figures_agree_with_an_exact_oracle(dtype, data):
    pairs = data.draw(word_lists(dtype))
    r, c = (tensor_of([pair[side] for pair in pairs], dtype) for side in (0, 1))
    drift = compare(r, c)
    numbers = [(exactly(a, dtype), exactly(b, dtype)) for a, b in pairs]
    alike = [
        (x is not None and y is not None) or (x is None and y is None and _same_special(a, b, dtype))
        for (x, y), (a, b) in zip(numbers, pairs, strict=True)
    ]
    if not all(alike):
        assert f"at {alike.count(False)} elements" in drift.structural
        return
    finite = [(x, y, steps(a, b, dtype)) for (x, y), (a, b) in zip(numbers, pairs, strict=True) if x is not None]
    assert drift.bitwise == all(a == b for a, b in pairs)
    assert drift.differing == sum(x != y for x, y, _ in finite)
    difference = [y - x for x, y, _ in finite]
    assert drift.max_ulp == float(max((step for *_, step in finite), default=0))
    assert drift.max_abs == pytest.approx(_float(max(map(abs, difference), default=Fraction(0))), rel=1e-15)
    if drift.histogram:
        counts = [sum(low <= step < 2 * low for *_, step in finite) for low in drift.histogram["edges"][:-1]]
        assert drift.histogram["counts"] == counts
        assert drift.histogram["zeros"] == sum(step == 0 for *_, step in finite)
    if finite and max(abs(y) for x, y, _ in finite) < 1e100 and max(abs(x) for x, *_ in finite) < 1e100:
        _check_norms(drift, finite, difference)


def _same_special(a, b, dtype):
    (sign_a, _, fraction_a), (sign_b, _, fraction_b) = fields(a, dtype), fields(b, dtype)
    return (fraction_a > 0 and fraction_b > 0) or (fraction_a == fraction_b == 0 and sign_a == sign_b)


def _float(fraction):
    try:
        return float(fraction)
    except OverflowError:
        return math.inf


def _root(fraction):
    """Square root to 100 bits, of any size."""
    bits = 100 + max(0, fraction.denominator.bit_length() - fraction.numerator.bit_length())
    return Fraction(math.isqrt((fraction.numerator << 2 * bits) // fraction.denominator), 1 << bits)


def _check_norms(drift, finite, difference):
    squared, reference = sum(d * d for d in difference), sum(x * x for x, *_ in finite)
    if squared > Fraction(1, 10**50) and (reference == 0 or reference > Fraction(1, 10**50)):
        expected = float(_root(squared) / (_root(reference) if reference else 1))
        assert drift.rel_l2 == pytest.approx(expected, rel=1e-9)
        scale = _root(reference / len(finite))
        shares = [abs(d) / (abs(x) + scale) for (x, *_), d in zip(finite, difference, strict=True) if abs(x) + scale]
        assert drift.rel_scaled == pytest.approx(float(max(shares, default=0)), rel=1e-9) or not reference
    if not drift.bitwise:
        largest = max(abs(d) for d in difference)
        assert drift.mean_signed == pytest.approx(
            float(sum(difference) / len(finite)), rel=1e-9, abs=float(largest) * 1e-12
        )


def values(shape, dtype, seed, spread=4):
    """Random numbers and a version moved by a few units in the last place, zeros and equal elements among them."""
    generator = torch.Generator().manual_seed(seed)
    r = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    moves = torch.randint(-spread, spread + 1, shape, generator=generator).to(WORDS[dtype])
    return r, (r.view(WORDS[dtype]) + moves).view(dtype)


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("shape", [(1,), (1025,), (9001,), (3, 37, 41, 2), (2, 66_000), (3, 70_001, 3), (140_000,)])
def test_compiled_code_and_torch_operations_find_the_same(dtype, shape):
    r, c = values(shape, dtype, len(shape))
    for side in (r, c):
        side.view(-1)[-1] = math.inf
        side.view(-1)[len(side.view(-1)) // 2] = math.nan
    plane = plane_of(shape)
    one, other = tally_compiled(r, c, plane), tally_blocks(r, c, plane, block=10_000)
    assert (one.unequal, one.skipped, one.one_sided) == (other.unequal, other.skipped, other.one_sided)
    assert (one.largest, one.far) == (other.largest, other.far)
    assert one.share == pytest.approx(other.share, rel=1e-12)
    assert np.array_equal(one.histogram, other.histogram)
    assert np.array_equal(one.rows_big, other.rows_big)
    np.testing.assert_allclose(one.sums, other.sums, rtol=1e-10, atol=1e-10 * abs(other.sums).max())
    np.testing.assert_allclose(one.rows_error, other.rows_error, rtol=1e-12)
    np.testing.assert_allclose(one.columns, other.columns, rtol=1e-12)


@pytest.mark.parametrize("dtype", FORMATS)
def test_figures_do_not_depend_on_the_layout(dtype):
    r, c = values((2, 6, 40, 50), dtype, 1)
    plain = compare(r, c)
    order = (3, 0, 2, 1)
    back = tuple(int(i) for i in np.argsort(order))
    apart = torch.zeros(2, 12, 40, 100, dtype=dtype)[:, ::2, :, 1::2]
    apart.copy_(c)
    layouts = {
        "channels_last": c.contiguous(memory_format=torch.channels_last),
        "permuted": c.permute(order).contiguous().permute(back),
        "every other": apart,
    }
    for name, other in layouts.items():
        assert not other.is_contiguous()
        assert compare(r, other) == plain, name
        assert "strides" in compare(r, other).layout
        assert compare(other, r).layout
    assert plain.layout == ""
    assert compare(layouts["channels_last"], layouts["permuted"]).bitwise
    wide = torch.ones(200, 1, dtype=dtype).expand(200, 100)
    assert compare(wide, torch.ones(200, 100, dtype=dtype)).bitwise


def test_figures_do_not_depend_on_the_number_of_threads():
    r, c = values((300, 1000), torch.float32, 5)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(compare(r, c))
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("dtype", [*FORMATS, torch.int64, torch.uint8, torch.bool, torch.complex64])
@pytest.mark.parametrize("size", [(50, 3), (300, 200)])
def test_inputs_are_neither_changed_nor_copied_as_a_whole(dtype, size, monkeypatch):
    r = (torch.rand(size, dtype=torch.float64) * 9).to(dtype)
    c = torch.zeros_like(r)
    sides = [r, r.t(), c, c.t()]
    for side in (r, c):
        side.requires_grad_(dtype.is_floating_point)
    before = [(side.detach().clone(), side._version, side.stride(), side.data_ptr()) for side in (r, c)]
    for a, b in ((sides[0], sides[2]), (sides[1], sides[3]), (sides[0], sides[0])):
        compare(a, b)
    for side, (copy, version, stride, address) in zip((r, c), before, strict=True):
        assert torch.equal(side.detach(), copy)
        assert (side._version, side.stride(), side.data_ptr()) == (version, stride, address)


@pytest.mark.parametrize("dtype", FORMATS)
@MANY
@given(data=st.data())
def test_ulp_distance_is_a_metric(dtype, data):
    triples = data.draw(word_lists(dtype, count=3))
    a, b, c = (tensor_of([triple[side] for triple in triples], dtype) for side in range(3))
    fine = torch.isfinite(a) & torch.isfinite(b) & torch.isfinite(c)
    a, b, c = a[fine], b[fine], c[fine]
    assert torch.equal(ulp_distance(a, b), ulp_distance(b, a))
    assert torch.equal(ulp_distance(a, a), torch.zeros(len(a), dtype=torch.float64))
    assert (ulp_distance(a, c) <= (ulp_distance(a, b) + ulp_distance(b, c)) * (1 + 2**-50)).all()
    assert torch.equal(ulp_distance(a, b) == 0, a == b)


@MANY
@given(st.integers(0, 2**32 - 1), st.sampled_from(FORMATS))
def test_swapping_the_sides_changes_signs_only(seed, dtype):
    r, c = values((20_000,), dtype, seed)
    one, other = compare(r, c), compare(c, r)
    assert one.mean_signed == pytest.approx(-other.mean_signed, rel=1e-12, abs=1e-300)
    assert (one.max_abs, one.max_ulp, one.differing) == (other.max_abs, other.max_ulp, other.differing)
    assert one.histogram == other.histogram
    assert one.worst_index == other.worst_index


@pytest.mark.parametrize("cut", [1, 7, 19])
def test_merged_parts_are_the_whole(cut):
    r, c = values((20, 1000), torch.float32, 3)
    plane = plane_of((2000, 1000))  # rows of 1000
    whole = tally_blocks(r, c, plane)
    merged = tally_blocks(r[:cut], c[:cut], plane).merged(tally_blocks(r[cut:], c[cut:], plane))
    assert np.array_equal(whole.histogram, merged.histogram)
    assert np.array_equal(whole.rows_error, merged.rows_error)
    np.testing.assert_allclose(merged.sums, whole.sums, rtol=1e-12)


@pytest.mark.parametrize(
    ("shape", "place", "axis"),
    [
        ((8, 30, 40, 50), (slice(None), 7), 1),
        ((4, 3000, 3), (..., 2), 2),
        ((90, 900), (17,), 0),
        ((5, 70_001, 3), (..., 1), 2),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int32])
def test_the_slice_that_carries_the_error_is_named(shape, place, axis, dtype):
    r = (torch.rand(shape) * 100).to(dtype)
    c = r.clone()
    c[place] += 1
    found = {part.axis: part for part in compare(r, c).slices}[axis]
    index = place[axis] if place[0] is not ... else place[1]
    assert (found.index, found.length) == (index, shape[axis])
    assert found.share == pytest.approx(1.0)


@pytest.mark.parametrize("size", [10, 20_000])
def test_special_values(size):
    r = torch.linspace(1, 2, size)
    r[:4] = torch.tensor([0.0, math.nan, math.inf, 1e-45])
    c = r.clone()
    c[0], c[3] = -0.0, -1e-45
    c.view(torch.int32)[1] ^= 5  # another payload
    drift = compare(r, c)
    assert not drift.bitwise
    assert not drift.structural
    assert (drift.differing, drift.max_ulp) == (1, 2)
    assert drift.worst_index == (3,)
    for place, value in ((1, 1.0), (2, -math.inf), (4, math.nan)):
        broken = r.clone()
        broken[place] = value
        assert "at 1 elements" in compare(r, broken).structural


def test_the_largest_number_is_next_to_infinity():
    for dtype in FORMATS:
        top = torch.tensor([torch.finfo(dtype).max], dtype=dtype)
        assert ulp_distance(top, torch.tensor([math.inf], dtype=dtype)) == 1


def test_float64_across_the_whole_range():
    top = torch.tensor([torch.finfo(torch.float64).max, 1.0], dtype=torch.float64)
    drift = compare(top, -top)
    assert drift.max_ulp == 2.0 * float(0x7FEFFFFFFFFFFFFF)
    assert drift.rel_l2 == math.inf  # overflow must not look like agreement
    assert drift.max_abs == math.inf


@pytest.mark.parametrize("size", [100, 20_000])
def test_complex_tensors_are_pairs_of_floats(size):
    r = torch.randn(size, dtype=torch.complex64)
    c = r.clone()
    c[3] += 1j
    drift = compare(r, c)
    assert (drift.differing, drift.worst_index, drift.dtype) == (1, (3, 1), "complex64")
    assert compare(r, r.clone()).bitwise


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.bool, torch.complex64])
@pytest.mark.parametrize("shape", [(0,), (3, 0, 2)])
def test_empty_tensors(dtype, shape):
    drift = compare(torch.zeros(shape, dtype=dtype), torch.zeros(shape, dtype=dtype))
    assert drift.bitwise
    assert (drift.count, drift.differing, drift.max_abs) == (0, 0, 0.0)
    assert "shape" in compare(torch.zeros(shape), torch.zeros(4)).structural


def test_large_integer_tensors_are_counted_exactly():
    r = torch.arange(1_500_000).view(1500, 1000)
    c = r.clone()
    c[1200, 7] += 5
    c[3] = -c[3]
    drift = compare(r, c)
    assert (drift.differing, drift.worst_index) == (1001, (3, 999))
    assert drift.exact
    assert drift.slices[0].index == 3


def test_sparse_tensors_are_refused_by_name():
    dense = torch.eye(3)
    assert "layout sparse_coo" in compare(dense, dense.to_sparse()).structural


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", FORMATS)
def test_a_gpu_finds_what_the_cpu_finds(dtype):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    r, c = values((40, 30_000), dtype, 2)
    here, there = compare(r, c), compare(r.cuda(), c.cuda())
    for name in ("differing", "max_abs", "max_ulp", "histogram", "worst_index", "bitwise", "worst_candidate"):
        assert getattr(here, name) == getattr(there, name), name
    assert there.rel_l2 == pytest.approx(here.rel_l2, rel=1e-9)
    assert there.rel_scaled == pytest.approx(here.rel_scaled, rel=1e-9)
    assert compare(r, c.cuda()).layout.startswith("on cuda")


def test_without_a_place_to_keep_compiled_code_it_still_runs(tmp_path):
    code = (
        "import parity.engine.cache as cache; cache._writable = lambda folder: False\n"
        "import torch; from parity.engine import kernel; assert not kernel._KEPT\n"
        "from parity.comparison import compare; print(compare(torch.zeros(9000), torch.ones(9000)).differing)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "9000", done.stderr


def test_small_tensors_do_not_load_the_compiler():
    code = (
        "import sys, torch; from parity.comparison import compare\n"
        "compare(torch.zeros(99), torch.ones(99)); print('numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_compiled_pass_is_the_one_taken(monkeypatch):
    monkeypatch.setattr(parity.comparison, "tally_blocks", None)
    assert compare(torch.zeros(parity.comparison.COMPILED), torch.ones(parity.comparison.COMPILED)).differing
