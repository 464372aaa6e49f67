"""The compiled pass over two float tensors given as words (`bits.py`); one call works through some rows of a plane.

Axes: n elements in rows of P (the last one may be shorter), R rows, M elements of a chunk, W bits of a word.

A chunk fits the first-level cache. It is looked at once as integers; only where bytes differ the figures are taken. The
histogram of ULP distances costs the same whatever their spread: the highest bit of each distance is set in a word, and
words are counted bit by bit with full adders (Harley and Seal's population count, here of every position at once).
"""

from typing import Any

import numpy as np
from numba import njit

from parity.engine.bits import (
    add_bits,
    as_float,
    as_number,
    as_word,
    carry_save,
    distance,
    fetch,
    gather_differences,
    is_finite,
    magnitude,
    top_bit,
)
from parity.engine.cache import compiled_code_is_kept

CHUNK, LANES = 1024, 64  # CHUNK = 16 x LANES: 16 words go through the adders at a time
PLANES = 12  # bits of the counters, of weight 1, 2, 4 ..., and one plane more for what is carried
HELD = (1 << (PLANES - 4)) - 1  # chunks that the counters hold
# sums: of d, d^2, r^2, c^2, r c, where r is the reference, c the candidate and d = c - r.
S_D, S_DD, S_RR, S_CC, S_RC = range(5)
# notes: largest magnitude (word) of r and of c, largest distance, unequal bytes?, not finite on one side, on any side.
TOP_R, TOP_C, FAR, UNEQUAL, ONE_SIDED, SKIPPED = range(6)
# rows: largest |d|; twice the largest |d| / (|r| + scale); sum of d^2.
BIG, SHARE, ERROR = range(3)
_KEPT = compiled_code_is_kept()
_exact: Any = njit(nogil=True, error_model="numpy", cache=_KEPT)
# Only chunks of finite numbers come here, so there is no NaN to lose; sums may be taken in register order.
_fast: Any = njit(nogil=True, error_model="numpy", cache=_KEPT, fastmath={"reassoc", "contract", "nnan", "nsz"})


@_fast
def _look(r: Any, c: Any, notes: Any) -> Any:
    """Whether any byte differs, and whether all are finite."""
    differ = gather_differences(distance(r[0], r[0]), r[0], c[0])
    top_r, top_c = magnitude(r[0]), magnitude(c[0])
    for i in range(len(r)):
        differ = gather_differences(differ, r[i], c[i])
        size_r, size_c = magnitude(r[i]), magnitude(c[i])
        top_r = size_r if size_r > top_r else top_r
        top_c = size_c if size_c > top_c else top_c
    finite = is_finite(max(top_r, top_c), r[0])
    if finite:
        notes[TOP_R] = max(notes[TOP_R], top_r)
        notes[TOP_C] = max(notes[TOP_C], top_c)
    return differ != 0, finite


@_fast
def _squares(r: Any) -> Any:
    total = 0.0
    for i in range(len(r)):
        x = np.float64(as_float(r[i]))
        total += x * x
    return total


@_fast
def _sum_up(r: Any, c: Any, columns: Any, sums: Any) -> Any:
    """The sums over a chunk of finite numbers, and the largest |d|: all in float64."""
    s = dd = rr = cc = rc = 0.0
    big = as_word(0.0)
    for i in range(len(r)):
        x, y = np.float64(as_float(r[i])), np.float64(as_float(c[i]))
        d = y - x
        e = d * d
        s += d
        dd += e
        rr += x * x
        cc += y * y
        rc += x * y
        columns[i] += e
        size = as_word(abs(d))
        big = size if size > big else big
    sums[S_D] += s
    sums[S_DD] += dd
    sums[S_RR] += rr
    sums[S_CC] += cc
    sums[S_RC] += rc
    return big, dd


@_fast
def _measure(r: Any, c: Any, half: Any, tops: Any) -> Any:
    """Extremes over a chunk of finite numbers, in the words' own width, so that twice as many share a register.

    `tops` receives the highest bit of each distance.
    """
    share, far = as_word(half - half), distance(r[0], r[0])
    for i in range(len(r)):
        x, y = as_float(r[i]), as_float(c[i])
        # Halved, |r| + scale cannot overflow; the quotient is twice the share.
        part = as_word(abs(y - x) / (abs(x) * np.float32(0.5) + half))
        share = part if part > share else share
        u = distance(r[i], c[i])
        far = u if u > far else far
        tops[i] = top_bit(u)
    return share, far


@_exact
def _screen(r: Any, c: Any, clean_r: Any, clean_c: Any, notes: Any) -> Any:
    """Copy a chunk with every pair that is not finite replaced by zeros, and count those pairs."""
    for i in range(len(r)):
        fine_r, fine_c = is_finite(magnitude(r[i]), r[i]), is_finite(magnitude(c[i]), c[i])
        clean_r[i], clean_c[i] = (r[i], c[i]) if fine_r and fine_c else (0, 0)
        if not (fine_r and fine_c):
            x, y = as_float(r[i]), as_float(c[i])
            notes[SKIPPED] += 1
            notes[ONE_SIDED] += not (x == y or (x != x and y != y))


@_exact
def _add_up(tops: Any, planes: Any) -> Any:
    """Add 16 words to the bit-sliced counters `planes`; the last plane is what is carried from one to the next."""
    w = LANES
    for j in range(w):
        ones, two_a = carry_save(planes[0, j], tops[j], tops[w + j])
        ones, two_b = carry_save(ones, tops[2 * w + j], tops[3 * w + j])
        twos, four_a = carry_save(planes[1, j], two_a, two_b)
        ones, two_a = carry_save(ones, tops[4 * w + j], tops[5 * w + j])
        ones, two_b = carry_save(ones, tops[6 * w + j], tops[7 * w + j])
        twos, four_b = carry_save(twos, two_a, two_b)
        fours, eight_a = carry_save(planes[2, j], four_a, four_b)
        ones, two_a = carry_save(ones, tops[8 * w + j], tops[9 * w + j])
        ones, two_b = carry_save(ones, tops[10 * w + j], tops[11 * w + j])
        twos, four_a = carry_save(twos, two_a, two_b)
        ones, two_a = carry_save(ones, tops[12 * w + j], tops[13 * w + j])
        ones, two_b = carry_save(ones, tops[14 * w + j], tops[15 * w + j])
        twos, four_b = carry_save(twos, two_a, two_b)
        fours, eight_b = carry_save(fours, four_a, four_b)
        planes[0, j], planes[1, j], planes[2, j] = ones, twos, fours
        planes[3, j], planes[PLANES, j] = carry_save(planes[3, j], eight_a, eight_b)
    for weight in range(4, PLANES):
        for j in range(w):
            planes[weight, j], planes[PLANES, j] = add_bits(planes[weight, j], planes[PLANES, j])


@_exact
def _empty(planes: Any, histogram: Any) -> Any:
    """Add the counters to each bit's count and set them to zero."""
    for weight in range(PLANES):
        for bit in range(len(histogram)):
            found = 0
            for j in range(LANES):
                found += (planes[weight, j] >> bit) & 1
            histogram[bit] += found << weight
    planes[:] = 0


@_exact
def _gather(store: Any, shape: Any, strides: Any, start: Any, out: Any) -> Any:
    """Elements start .. start + M of a strided tensor in logical order."""
    last, rest, offset = len(shape) - 1, start, 0
    index = np.empty(len(shape), np.int64)
    for axis in range(last, -1, -1):
        index[axis] = rest % shape[axis]
        rest //= shape[axis]
        offset += index[axis] * strides[axis]
    done = 0
    while done < len(out):
        run = min(shape[last] - index[last], len(out) - done)
        for j in range(run):
            out[done + j] = store[offset + j * strides[last]]
        done += run
        offset -= index[last] * strides[last]
        index[last] = 0
        for axis in range(last - 1, -1, -1):
            index[axis] += 1
            offset += strides[axis]
            if index[axis] < shape[axis]:
                break
            offset -= shape[axis] * strides[axis]
            index[axis] = 0


@_exact
def _row(store: Any, shape: Any, strides: Any, start: Any, stop: Any, room: Any) -> Any:
    """A row of a tensor: a view where memory is in logical order (`strides` is empty), else gathered in `room`."""
    if len(strides) == 0:
        return store[start:stop]
    _gather(store, shape, strides, start, room[: stop - start])
    return room[: stop - start]


@_exact
def _fetch(words: Any, start: Any) -> Any:
    """Ask for the beginning of the next chunk: processors do not look ahead beyond a page, but then read on."""
    for i in range(start, start + CHUNK // 4, 64 // words.itemsize):
        fetch(words, i)


@_exact
def _take(
    r: Any,
    c: Any,
    half: Any,
    clean: Any,
    tops: Any,
    planes: Any,
    columns: Any,
    sums: Any,
    histogram: Any,
    notes: Any,
    row: Any,
    held: Any,
) -> Any:
    """Take the figures of one row; how many chunks the counters hold, with `held` before."""
    for start in range(0, len(r), CHUNK):
        stop = min(start + CHUNK, len(r))
        x, y = r[start:stop], c[start:stop]
        unequal, finite = _look(x, y, notes)
        _fetch(r, stop)
        _fetch(c, stop)
        if unequal:
            notes[UNEQUAL] = 1
        if not finite:
            x, y = clean[0, : stop - start], clean[1, : stop - start]
            _screen(r[start:stop], c[start:stop], x, y, notes)
            _look(x, y, notes)
        elif not unequal:
            same = _squares(x)
            sums[S_RR] += same
            sums[S_CC] += same
            sums[S_RC] += same
            continue
        big, error = _sum_up(x, y, columns[start:stop], sums)
        share, far = _measure(x, y, half, tops)
        row[BIG] = max(row[BIG], as_number(big))
        row[SHARE] = max(row[SHARE], as_number(share))
        row[ERROR] += error
        notes[FAR] = max(notes[FAR], far)
        tops[stop - start :] = 0
        _add_up(tops, planes)
        held += 1
        if held == HELD:
            _empty(planes, histogram)
            held = 0
    return held


@_exact
def strip(
    r: Any,
    c: Any,
    shape: Any,
    steps_r: Any,
    steps_c: Any,
    n: Any,
    first: Any,
    last: Any,
    half: Any,
    room: Any,
    clean: Any,
    tops: Any,
    planes: Any,
    columns: Any,
    sums: Any,
    histogram: Any,
    notes: Any,
    rows: Any,
) -> Any:
    """Take the figures of rows first .. last into the arrays at the end, which are added to.

    r, c: words of reference and candidate, one-dimensional memory. shape: of both; steps_r, steps_c: strides in
    elements, empty for memory in logical order. n: number of elements. half: half the scale of the share, in the type
    of the numbers. room: [2,P] words of scratch, or fewer where both are in logical order; clean: [2,CHUNK]; tops:
    [CHUNK], planes: [PLANES+1,LANES] unsigned words, zero. columns: [P] sums of d^2; sums, notes, rows [R,3]: above;
    histogram: [W] distances by their highest bit.
    """
    width, held = len(columns), 0
    for row in range(first, last):
        start, stop = row * width, min((row + 1) * width, n)
        x = _row(r, shape, steps_r, start, stop, room[0])
        y = _row(c, shape, steps_c, start, stop, room[1])
        held = _take(x, y, half, clean, tops, planes, columns, sums, histogram, notes, rows[row], held)
    _empty(planes, histogram)


@_exact
def mean_square(r: Any, shape: Any, steps: Any, n: Any, width: Any, every: Any, room: Any) -> Any:
    """Mean square of the finite chunks of every so many rows, 0 if there is none."""
    total, seen, ignored = 0.0, 0, np.zeros(6, np.uint64)
    for start in range(0, n, every * width):
        row = _row(r, shape, steps, start, min(start + width, n), room[0])
        for begin in range(0, len(row), CHUNK):
            x = row[begin : begin + CHUNK]
            if _look(x, x, ignored)[1]:
                total += _squares(x)
                seen += len(x)
    return total / seen if seen else 0.0


@_exact
def largest_share(
    r: Any, c: Any, shape: Any, steps_r: Any, steps_c: Any, n: Any, width: Any, rows: Any, scale: Any, room: Any
) -> Any:
    """Largest |d| / (|r| + scale) over the finite pairs of some rows, in float64."""
    found = 0.0
    for row in rows:
        start, stop = row * width, min((row + 1) * width, n)
        x = _row(r, shape, steps_r, start, stop, room[0])
        y = _row(c, shape, steps_c, start, stop, room[1])
        for i in range(len(x)):
            a, b = np.float64(as_float(x[i])), np.float64(as_float(y[i]))
            share = abs(b - a) / (abs(a) + scale)
            if np.isfinite(share) and share > found:
                found = share
    return found
