"""Names are matched by hand, exactly or by structure; what could be two things is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parity.matching import Entry, match, read_map


def forward(name, shape=(2,), family="Linear"):
    return Entry(f"{name}/out", "forward", shape, "float32", family)


def other(name, kind, shape=(2,)):
    return Entry(name, kind, shape, "float32")


def passes(matching):
    return {pair.reference: (pair.candidate, pair.by) for pair in matching.matches}


def test_equal_names_are_exact():
    entries = [forward("a"), other("losses/x", "loss", ()), other("losses/y", "loss", ())]
    assert {by for _, by in passes(match(entries, entries)).values()} == {"exact"}


def test_renamed_modules_are_matched_by_their_calls_and_what_belongs_to_them_follows():
    ours = [
        other("initial/net.a.weight", "initial"),
        forward("net.a"),
        forward("net.b"),
        other("gradients/net.b.weight@1", "gradient"),
    ]
    theirs = [
        other("initial/m.p.weight", "initial"),
        forward("m.p"),
        forward("m.q"),
        other("gradients/m.q.weight@1", "gradient"),
    ]
    found = passes(match(ours, theirs))
    assert found["net.b/out"] == ("m.q/out", "structural")
    assert found["gradients/net.b.weight@1"] == ("gradients/m.q.weight@1", "structural")
    assert len(found) == 4


def test_an_extra_call_makes_equal_layers_ambiguous():
    matching = match([forward("a"), forward("b")], [forward("p"), forward("q"), forward("r")])
    assert not matching.matches
    assert matching.ambiguous[0].candidate == ("p/out", "q/out", "r/out")


def test_unique_shapes_are_matched_although_the_calls_differ():
    matching = match([forward("a", (2,)), forward("b", (3,))], [forward("p", (3,)), forward("q", (9,))])
    assert passes(matching) == {"b/out": ("p/out", "structural")}
    assert (matching.only_reference, matching.only_candidate) == (["a/out"], ["q/out"])


def test_scalars_of_other_names_are_refused_until_a_map_says_which():
    ours = [other(f"losses/{name}", "loss", ()) for name in ("photo", "landmark")]
    theirs = [other(f"losses/{name}", "loss", ()) for name in ("lmk", "image")]
    assert len(match(ours, theirs).ambiguous) == 1
    told = match(ours, theirs, {"losses/photo": "losses/image", "losses/landmark": "losses/lmk"})
    assert set(passes(told).values()) == {("losses/image", "manual"), ("losses/lmk", "manual")}
    half = match(ours, theirs, {"losses/photo": "losses/image"})
    assert passes(half)["losses/landmark"] == ("losses/lmk", "structural"), "only one is left on each side"


def test_a_map_may_hold_a_star(tmp_path):
    (tmp_path / "map.yml").write_text("model.*: net.inner.*\n")
    found = match(
        [forward("model.a"), forward("model.b")],
        [forward("net.inner.b"), forward("net.inner.a")],
        read_map(tmp_path / "map.yml"),
    )
    assert passes(found) == {"model.a/out": ("net.inner.a/out", "manual"), "model.b/out": ("net.inner.b/out", "manual")}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"zzz": "a/out"}, "the reference has no 'zzz'"),
        ({"a/out": "b/ou"}, "the candidate has no 'b/ou'; near: b/out"),
        ({"a/out": "b/out", "c/out": "b/out"}, "more than one"),
    ],
)
def test_a_map_that_does_not_fit_is_named(names, words):
    with pytest.raises(ValueError, match=words):
        match([forward("a"), forward("c")], [forward("b")], names)


@pytest.mark.parametrize("text", ["- a\n", "a*: b\n", "a: [b]\n", "a: b: c\n"])
def test_a_file_that_is_no_map(text, tmp_path):
    (tmp_path / "map.yml").write_text(text)
    with pytest.raises(ValueError, match=r"map\.yml"):
        read_map(tmp_path / "map.yml")


SIDES = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from([(1,), (2,)]), st.sampled_from(["Linear", "ReLU", ""])),
    unique_by=lambda entry: entry[0],
)


@given(SIDES, SIDES)
def test_every_name_ends_in_exactly_one_place(one, two):
    ours, theirs = ([forward(*entry) for entry in side] for side in (one, two))
    found = match(ours, theirs)
    left = (
        [pair.reference for pair in found.matches]
        + found.only_reference
        + [n for a in found.ambiguous for n in a.reference]
    )
    right = (
        [pair.candidate for pair in found.matches]
        + found.only_candidate
        + [n for a in found.ambiguous for n in a.candidate]
    )
    assert sorted(left) == sorted(entry.name for entry in ours)
    assert sorted(right) == sorted(entry.name for entry in theirs)
