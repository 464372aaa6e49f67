"""Alignment and name maps: certain pairs only, and a refusal that says what to write."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from parity.pair.align import align
from parity.pair.names import match_weights


def test_alignment_pairs_only_what_every_best_alignment_pairs():
    found = align("abcd", "abxd")
    assert found.pairs == [(0, 0), (1, 1), (3, 3)]
    assert (found.only_first, found.only_second) == ([2], [2])
    doubtful = align("aab", "ab")
    assert doubtful.pairs == [(2, 1)]
    assert doubtful.ambiguous == [[(0, 0), (1, 0)]]
    assert align("ab", "ba").pairs == []


@given(st.text("abc", max_size=12))
def test_a_sequence_is_aligned_with_itself_without_doubt(text):
    assert align(text, text).pairs == [(i, i) for i in range(len(text))]


@given(st.text("abc", max_size=9), st.text("abc", max_size=9))
def test_alignment_is_ascending_equal_and_symmetric(a, b):
    found, other = align(a, b), align(b, a)
    assert all(a[i] == b[j] for i, j in found.pairs)
    assert found.pairs == sorted(found.pairs)
    assert [(j, i) for i, j in found.pairs] == other.pairs


class Chain(nn.Module):
    def __init__(self, *names, wide=4):
        super().__init__()
        for name in names:
            self.add_module(name, nn.Linear(wide, wide))
        self.order = names

    def forward(self, x):
        for name in self.order:
            x = torch.relu(getattr(self, name)(x))
        return x


class Branches(Chain):
    def forward(self, x):
        return sum((i + 1) * getattr(self, name)(x) for i, name in enumerate(self.order))


def matched(a, b, **given):
    x = torch.ones(2, 4)
    return match_weights(a, b, (lambda: a(x), lambda: b(x)), **given)


def passes(found):
    return {key: (match.reference, match.how) for key, match in found.matches.items()}


def test_each_pass_is_named():
    a, b = Chain("first", "middle", "last"), Chain("first", "centre", "end")
    found = passes(matched(a, b, names={"last": "end"}))
    assert found["first.weight"] == (("first.weight",), "exact")
    assert found["centre.bias"] == (("middle.bias",), "structural")
    assert found["end.weight"] == (("last.weight",), "manual")


def test_use_and_not_registration_decides():
    a, b = Chain("p", "q"), Chain("s", "r")
    b.order = ("r", "s")
    found = passes(matched(a, b))
    assert found["r.weight"][0] == ("p.weight",)
    assert found["s.weight"][0] == ("q.weight",)


def test_twins_are_refused_with_the_reason():
    found = matched(Branches("q", "k"), Branches("query", "key"))
    assert not found.matches
    assert "q.weight, k.weight have one shape and are used on the same value" in found.refused["query.weight"]
    settled = matched(Branches("q", "k"), Branches("query", "key"), names={"q": "query", "k": "key"})
    assert len(settled.matches) == 4
    assert not settled.refused


def test_a_fused_weight_is_gathered_from_several():
    a, b = Branches("q", "k"), nn.Linear(4, 8)
    table = {
        "weight": lambda ref: torch.cat([ref["q.weight"], ref["k.weight"]]),
        "bias": lambda ref: torch.cat([ref["q.bias"], ref["k.bias"]]),
    }
    found = match_weights(a, b, (), weights=table)
    assert found.matches["weight"].reference == ("q.weight", "k.weight")
    assert not found.only_reference


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"names": {"frist": "first"}}, "did you mean 'first"),
        ({"names": {"first": "nowhere"}}, "the candidate has no module or weight 'nowhere'"),
        ({"weights": {"first.weight": lambda ref: 2 * ref["first.weight"]}}, "must only move values"),
        ({"weights": {"first.weight": "first.wieght"}}, "the reference has no weight 'first.wieght'"),
        ({"weights": {"first.weight": "first.bias"}}, r"shape \[4\] of the reference, \[4, 4\] of the candidate"),
        ({"weights": {"first.weights": "first.weight"}}, "did you mean 'first.weight'"),
    ],
)
def test_bad_entries_say_what_is_wrong(given, says):
    with pytest.raises(ValueError, match=says):
        matched(Chain("first"), Chain("first"), **given)


class Written(nn.Module):
    """A linear layer in one of the ways that people write it; `stored` is the way its weight lies in memory."""

    def __init__(self, way, wide=4):
        super().__init__()
        self.kernel, self.way = nn.Parameter(torch.randn(wide, wide)), way

    def forward(self, x):
        ways = {
            "linear": lambda: nn.functional.linear(x, self.kernel),
            "x @ w.t": lambda: x @ self.kernel.t(),
            "x @ w": lambda: x @ self.kernel,
            "w @ x.t": lambda: (self.kernel @ x.t()).t(),
        }
        return ways[self.way]()


@pytest.mark.parametrize(("way", "same"), [("linear", True), ("x @ w.t", True), ("x @ w", False)])
def test_a_square_weight_is_not_paired_with_its_transpose(way, same):
    found = matched(nn.Sequential(nn.Linear(4, 4, bias=False)), Written(way))
    assert ("kernel" in found.matches) == same
    assert ("transpose" in found.refused.get("kernel", "")) != same
