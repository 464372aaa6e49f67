"""The words: what may be said, and that it cannot be said without grounds."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from parity.truth.schema import Word
from parity.truth.statistics import ALPHA, MIN_INPUTS, holm, judge, median_ratio, ratio, signed_rank

ERRORS = st.floats(0, 1, allow_subnormal=False)
PAIRS = st.lists(st.tuples(ERRORS, ERRORS), min_size=MIN_INPUTS, max_size=40)
SCATTER = 0.5  # standard deviation of log error from input to input


def word_of(legacy, modern):
    return judge({"q": (legacy, modern)}, set())["q"].word


def tied(random, inputs=MIN_INPUTS):
    """Errors of two sides of which neither is more accurate; the size of an error depends on its input."""
    size = np.exp(random.normal(-15, 1, inputs))
    return [list(size * np.exp(random.normal(0, SCATTER, inputs))) for _ in range(2)]


def test_same_bytes_are_the_same_error_and_need_no_test():
    found = judge({"q": ([1e-7] * 3, [1e-7] * 3)}, {"q"})["q"]
    assert (found.word, found.p) == (Word.SAME_ERROR, None)
    assert median_ratio([1e-7, 0.0], [1e-7, 0.0]) == 1.0


@given(st.lists(st.tuples(ERRORS, ERRORS), min_size=1, max_size=MIN_INPUTS - 1))
def test_few_inputs_never_say_closer_or_farther(pairs):
    legacy, modern = zip(*pairs, strict=True)
    assert word_of(legacy, modern) is Word.SAME_SIZE


def test_five_inputs_say_nothing_even_a_million_times_apart():
    assert word_of([1e-8] * 5, [1e-2] * 5) is Word.SAME_SIZE
    assert word_of([1e-8] * MIN_INPUTS, [1e-2] * MIN_INPUTS) is Word.FARTHER


def test_ties_are_called_at_most_as_often_as_promised():
    """Alpha is the chance that a run says a word anywhere, so whole runs are simulated."""
    random, runs, quantities = np.random.default_rng(0), 200, 15
    wrong = 0
    for _ in range(runs):
        found = judge({str(index): tied(random) for index in range(quantities)}, set())
        wrong += any(finding.word is not Word.SAME_SIZE for finding in found.values())
    assert wrong <= binom.ppf(0.999, runs, ALPHA)


def test_without_holm_the_promise_would_be_broken():
    """Negative control of the simulation: the same runs judged one quantity at a time do say words."""
    random, runs, quantities = np.random.default_rng(0), 50, 15
    wrong = sum(any(signed_rank(*tied(random)) < ALPHA for _ in range(quantities)) for _ in range(runs))
    assert wrong > binom.ppf(0.999, runs, ALPHA)


def test_a_side_three_times_worse_is_seen_among_thirty_quantities():
    random = np.random.default_rng(0)
    errors = {str(index): tied(random) for index in range(30)}
    legacy, modern = tied(random)
    errors["bad"] = legacy, [3 * error for error in modern]
    errors["good"] = legacy, [error / 3 for error in modern]
    found = judge(errors, set())
    assert (found["bad"].word, found["good"].word) == (Word.FARTHER, Word.CLOSER)
    assert sum(finding.word is not Word.SAME_SIZE for finding in found.values()) == 2


@given(PAIRS)
def test_swapping_the_sides_swaps_the_words(pairs):
    legacy, modern = zip(*pairs, strict=True)
    opposite = {Word.CLOSER: Word.FARTHER, Word.FARTHER: Word.CLOSER, Word.SAME_SIZE: Word.SAME_SIZE}
    assert word_of(modern, legacy) is opposite[word_of(legacy, modern)]


@given(st.dictionaries(st.text(min_size=1), st.floats(0, 1), min_size=1, max_size=30))
def test_holm_only_raises_keeps_order_and_stays_a_probability(p):
    adjusted = holm(p)
    assert all(p[name] <= adjusted[name] <= 1 for name in p)
    ordered = sorted(p, key=lambda name: p[name])
    assert [adjusted[name] for name in ordered] == sorted(adjusted.values())


def test_holm_on_the_textbook_example():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02}
    )


def test_ratio_of_no_error():
    assert ratio(0.0, 0.0) == 1
    assert ratio(1e-9, 0.0) == math.inf
    assert ratio(0.0, 1e-9) == 0
