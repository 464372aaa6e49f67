"""Names are matched by hand, exactly or by structure; what could be two things is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parity.matching import match, read_map
from parity.matching_map import Entry, spoken_of


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


def test_a_shape_alone_is_no_match():
    matching = match([forward("a", (2,)), forward("b", (3,))], [forward("p", (3,)), forward("q", (9,))])
    assert not matching.matches
    assert (matching.ambiguous[0].reference, matching.ambiguous[0].candidate) == (("b/out",), ("p/out",))
    assert (matching.only_reference, matching.only_candidate) == (["a/out"], ["q/out"])


def test_a_bare_parameter_is_not_the_transposed_weight_of_its_shape():
    """P [16, 32] and Q [32, 16] are up.weight and down.weight the other way round: each has the other one's shape."""
    ours = [other("initial/m.P", "initial", (16, 32)), other("initial/m.Q", "initial", (32, 16))]
    theirs = [other("initial/m.up.weight", "initial", (32, 16)), other("initial/m.down.weight", "initial", (16, 32))]
    assert not match(ours, theirs).matches


KINDS = {"initial/{}": "initial", "gradients/{}": "gradient"}
KINDS |= dict.fromkeys(("adam/exp_avg/{}", "adam/exp_avg/{}@1"), "update")


def recorded(*weights, modules=(), adam="adam"):
    names = [(pattern, kind, weight) for weight in weights for pattern, kind in KINDS.items()]
    tensors = [other(_at(pattern, weight).replace("adam", adam, 1), kind) for pattern, kind, weight in names]
    return [forward(module) for module in modules] + tensors


def _at(pattern, weight):
    return pattern.format(weight)


def test_one_line_speaks_for_all_that_was_recorded_of_a_weight_or_below_a_module():
    ours = recorded("m.P", "m.c.weight", "m.cnt", modules=("m.c", "m.c.act"))
    theirs = recorded("m.up.bias", "m.conv.weight", "m.seen", modules=("m.conv", "m.conv.act"), adam="opt")
    names = {"m.c": "m.conv", "m.P": "m.up.bias", "m.cnt": "m.seen", "adam": "opt"}
    found = passes(match(ours, theirs, names))
    assert len(found) == len(ours)
    assert {by for _, by in found.values()} == {"manual"}
    assert found["adam/exp_avg/m.P@1"][0] == "opt/exp_avg/m.up.bias@1"
    assert found["m.c.act/out"][0] == "m.conv.act/out"
    assert found["gradients/m.cnt"][0] == "gradients/m.seen", "m.c is no part of m.cnt"
    starred = {"m.c*": "m.conv*", "m.P": "m.up.bias", "m.cnt": "m.seen", "adam": "opt"}
    assert passes(match(ours, theirs, starred)) == found, "the longest line that fits counts"


def test_a_line_that_names_a_tensor_speaks_for_all_steps_unless_it_names_one():
    ours = [other(name, "loss", ()) for name in ("losses/a", "losses/a@1", "losses/ab")]
    theirs = [other(name, "loss", ()) for name in ("losses/x", "losses/x@1", "losses/xb")]
    assert list(passes(match(ours, theirs, {"losses/a": "losses/x"}))) == ["losses/a", "losses/a@1"]
    assert list(passes(match(ours, theirs, {"losses/a@1": "losses/x@1"}))) == ["losses/a@1"]
    assert len(passes(match(ours, theirs, {"losses/a*": "losses/x*"}))) == 3
    assert passes(match(ours, theirs, {"*/a": "*/x"}))["losses/a@1"][0] == "losses/x@1"


def test_a_count_of_steps_may_be_any_and_is_not_listed_as_such():
    ours, theirs = ([other(f"adam/step/{name}", "update", ())] for name in "ab")
    found = match(ours, theirs)
    assert (found.only_reference, found.only_candidate, found.ambiguous) == (["adam/step/a"], ["adam/step/b"], [])


def test_a_line_may_give_no_counterpart():
    ours, theirs = recorded("m.P"), recorded("m.P")
    found = match(ours, theirs, {"m.P": None})
    assert not found.matches
    assert found.left_out == [entry.name for entry in ours]
    assert not found.only_reference
    assert found.only_candidate == [entry.name for entry in theirs]


def test_a_tensor_is_spoken_of_by_its_weight():
    assert spoken_of("adam/exp_avg/m.P@1") == spoken_of("initial/m.P") == "m.P"
    assert spoken_of("m.conv/out.0@1") == "m.conv/out.0"
    assert spoken_of("losses/photo@1") == "losses/photo"


def test_scalars_of_other_names_are_refused_until_a_map_says_which():
    ours = [other(f"losses/{name}", "loss", ()) for name in ("photo", "landmark")]
    theirs = [other(f"losses/{name}", "loss", ()) for name in ("lmk", "image")]
    assert len(match(ours, theirs).ambiguous) == 1
    told = match(ours, theirs, {"losses/photo": "losses/image", "losses/landmark": "losses/lmk"})
    assert set(passes(told).values()) == {("losses/image", "manual"), ("losses/lmk", "manual")}
    half = match(ours, theirs, {"losses/photo": "losses/image"})
    assert "losses/landmark" not in passes(half), "that only one is left on each side does not make them the same"


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
        ({"zzz": "a"}, "the reference has no 'zzz'"),
        ({"zzz/out": "b/out"}, "the reference has no 'zzz/out'; near: "),
        ({"a": "bb"}, "the candidate has no 'bb'; near: b"),
        ({"a": "b", "c": "b"}, "more than one"),
        ({"a/out": "b/ou"}, "the candidate has no 'b/ou'; near: b/out"),
        ({"a/out": "b/out", "c/out": "b/out"}, "more than one"),
    ],
)
def test_a_map_that_does_not_fit_is_named(names, words):
    with pytest.raises(ValueError, match=words):
        match([forward("a"), forward("c")], [forward("b")], names)


@pytest.mark.parametrize("text", ["- a\n", "a*: b\n", "a: [b]\n", "a: b: c\n", "a/out: b\n", "a: 1\n"])
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
