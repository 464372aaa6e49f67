"""Ranking arithmetic, words, and sentences that claim no more than was seen."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parity.noise import Floor
from parity.reproduce.answer import answer, recipe
from parity.reproduce.cell import FLOOR, KERNELS, RANDOM, Cell
from parity.reproduce.judge import Judged, Result, distances, judge, noise_floors
from parity.reproduce.operations import first_moved
from parity.reproduce.ranking import chance_range, explained, leading, measured_directly, shares, variances
from parity.reproduce.results import SubjectResults
from parity.reproduce.run import Run
from parity.reproduce.session import headline
from parity.reproduce.watch import Watch
from parity.reproduce.words import RAN, Word


def judged(id: str, word: Word = Word.MOVED, cause: str = "", **effects: float) -> Judged:
    return Judged(
        id=id,
        title=id,
        group="",
        word=word,
        reason="",
        against="baseline",
        cause=cause,
        control=f"fix {cause}",
        effects=effects,
        distances=effects,
    )


def test_shares_are_parts_of_the_summed_variance() -> None:
    cells = [judged("window", cause="window", loss=0.3), judged("order", cause="order", loss=0.4)]
    found = {share.cause: share.share for share in shares(cells)}
    assert found["order"] == pytest.approx(0.16 / 0.25)
    assert found["window"] == pytest.approx(0.09 / 0.25)


def test_draws_are_averaged_and_settings_take_their_largest() -> None:
    drawn = [judged("window", cause="window", loss=0.1), judged("window 2", cause="window", loss=0.3)]
    settings = [judged("threads 2", cause="threads", loss=0.1), judged("threads 4", cause="threads", loss=0.3)]
    assert variances(drawn)["window"]["loss"] == pytest.approx((0.01 + 0.09) / 4)
    assert variances(settings)["threads"]["loss"] == pytest.approx(0.09 / 2)


def test_a_quantity_that_nothing_moves_has_no_say() -> None:
    cells = [judged("window", cause="window", loss=0.1), judged("dropout", cause="dropout", loss=0.1, weights=0.0)]
    assert [share.share for share in shares(cells)] == pytest.approx([0.5, 0.5])
    assert shares([judged("window", Word.BITWISE, "window")]) == []


def test_a_quantity_that_only_rounding_moves_has_no_say() -> None:
    moved = judged("dropout", cause="dropout", loss=1.0)
    rounding = judged("threads 2", Word.NOISE, "threads", codes=1e-9, loss=1e-9)
    assert [(share.cause, round(share.share, 6)) for share in shares([moved, rounding])] == [
        ("dropout", 1.0),
        ("threads", 0.0),
    ]


def test_causes_that_did_not_run_have_no_share() -> None:
    cells = [judged("window", Word.ERROR, "window", loss=9.0), judged("order", cause="order", loss=0.4)]
    assert [share.cause for share in shares(cells)] == ["order"]


@given(st.lists(st.floats(1e-6, 10.0), min_size=1, max_size=8))
def test_shares_sum_to_one_and_leaders_reach_the_part_asked_for(sizes: list[float]) -> None:
    found = shares([judged(f"cause {i}", cause=f"cause {i}", loss=size) for i, size in enumerate(sizes)])
    assert sum(share.share for share in found) == pytest.approx(1.0)
    chosen = leading(found)
    assert sum(share.share for share in chosen) >= 0.99 or len(chosen) == len(found)


def test_single_causes_are_held_against_the_direct_measurement() -> None:
    cells = [
        judged("as shipped 2", loss=0.5),
        judged("window", cause="window", loss=0.3),
        judged("order", cause="order", loss=0.4),
        judged("threads 2", cause="threads", loss=5.0),  # not drawn: as shipped it is the same in every run
    ]
    assert explained(variances(cells), measured_directly(cells))["loss"] == pytest.approx(1.0)


IDS = (
    "as shipped 2",
    "as shipped 3",
    "nothing",
    "nothing again",
    "threads 2",
    "threads 4",
    "workers 2",
    "resume at 1",
    "beside",
)
CLAIMS = {"threads": "threads ", "loading processes": "workers ", "continued": "resume ", "in company": "beside"}


@given(st.dictionaries(st.sampled_from(IDS), st.sampled_from(list(Word)), min_size=0))
def test_a_sentence_never_claims_more_than_the_cells_showed(found: dict[str, Word]) -> None:
    text = answer("toy", [judged(id, word) for id, word in found.items()], [])
    shipped = [found[id] for id in found if id.startswith("as shipped ") and found[id] in RAN]
    nothing = [found[id] for id in found if id.startswith("nothing") and found[id] in RAN]
    assert ("yes" in text) == (bool(shipped) and set(shipped) == {Word.BITWISE})
    assert ("not measured" in text) == (not shipped)
    assert ("Seeded" in text) == bool(nothing)
    for clause in text.partition("Seeded: ")[2].rstrip(".").split("; "):
        for claim, prefix in CLAIMS.items():
            if claim in clause:
                tried = [found[id] for id in found if id.startswith(prefix) and found[id] in RAN]
                assert tried, f"{clause!r} speaks of what did not run"
                assert ("bitwise" in clause) == (set(tried) == {Word.BITWISE})
                assert ("not the same" in clause) == (Word.MOVED in tried)


def test_a_ranking_that_misses_what_runs_as_shipped_show_says_so() -> None:
    cells = [judged("as shipped 2", loss=0.5), judged("adam fused", cause="Adam's implementation", loss=1e-9)]
    ranked = shares(cells)
    text = answer("toy", cells, ranked, explained(variances(cells), measured_directly(cells)))
    assert "They do not explain the runs as shipped" in text
    assert "under 1 %" in text
    assert "do not explain" not in answer("toy", cells, ranked, {"loss": 0.9})


def test_what_so_few_runs_show_by_chance_is_not_called_unexplained() -> None:
    """The variance of three runs of which one happened upon a large loss, against two draws that did not."""
    draws = [judged(f"dropout {i}", cause="dropout", loss=1.0) for i in range(2)]
    cells = [*draws, judged("as shipped 2", loss=1.0), judged("as shipped 3", loss=5.0)]
    parts = explained(variances(cells), measured_directly(cells))
    low, high = chance_range(cells)
    assert low < parts["loss"] < 0.1
    assert low == pytest.approx(1 / 39, rel=0.01)
    assert high == pytest.approx(39, rel=0.01)
    assert "do not explain" not in answer("toy", cells, shares(cells), parts)
    assert "do not explain" in answer("toy", cells, shares(cells), {"loss": 0.02})
    assert chance_range(draws) == (0.0, float("inf"))


def test_what_a_run_as_shipped_does_not_change_is_no_cause_of_its_variation() -> None:
    cells = [
        judged("as shipped 2", loss=1.0),
        judged("dropout", cause="dropout", loss=3.0),
        judged("window", cause="window", loss=1.0),
        judged("compile", cause="compiler", loss=10.0),
    ]
    text = answer("toy", cells, shares(cells))
    assert (
        "Two causes account for 100 % of the variation, measured one by one: dropout (90 %) and window (10 %)." in text
    )
    assert "What a run as shipped does not change moves it too, if switched: compiler (91 %)." in text


def test_small_drawn_causes_are_named_and_what_holds_as_shipped_is_not_said_to_vary() -> None:
    causes = [judged("dropout", cause="dropout", loss=1.0), judged("window", cause="window", loss=0.01)]
    text = answer("toy", [judged("as shipped 2"), *causes], shares(causes))
    assert "One cause accounts for over 99 % of the variation, measured one by one: dropout (over 99 %)" in text
    assert "; window (under 1 %) moves it too." in text
    text = answer("toy", [judged("as shipped 2", Word.BITWISE), *causes], shares(causes))
    assert "of what would move it, switched one by one: dropout" in text
    assert "the variation" not in text


def test_the_headline_says_once_what_several_subjects_do() -> None:
    said = {
        "legacy": [judged("as shipped 2", Word.NOISE), judged("as shipped 3", Word.MOVED)],
        "modern": [judged("as shipped 2", Word.BITWISE)],
        "a.b:own": [judged("as shipped 2", Word.BITWISE)],
        "other": [],
    }
    empty = {"recipe": [], "shares": [], "direct": {}, "explained": {}, "floor": {}, "invariance": []}
    known = {"pipeline": "coarse", "steps": 2, "raster": 64, "answer": "", **empty}
    parts = [SubjectResults(subject=name, cells=cells, **known) for name, cells in said.items()]
    assert headline(parts) == (
        "As shipped, in fresh processes on this machine, legacy coarse does not reproduce; modern coarse and "
        "b:own coarse give the same bytes; other coarse was not measured."
    )


def test_the_recipe_lists_controls_of_what_moved_once_largest_first() -> None:
    cells = [
        judged("threads 2", Word.NOISE, "threads", loss=1e-6),
        judged("window", Word.MOVED, "window", loss=0.5),
        judged("window 2", Word.MOVED, "window", loss=0.5),
        judged("hash seed", Word.BITWISE, "hash seed"),
    ]
    assert recipe(cells, shares(cells)) == ["fix window", "fix threads"]


def drift(rel_l2: float, *, bitwise: bool = False, structural: str = "") -> dict[str, object]:
    return {
        "dtype": "float32",
        "scaled_ulp": rel_l2 * 2**23,
        "structural": structural,
        "bitwise": bitwise,
        "count": 4,
        "differing": 4,
        "max_abs": rel_l2,
        "rel_l2": rel_l2,
        "norm": 2.0,
    }


def word(drifts: dict[str, dict[str, object]], floor: float | None, group: str = "") -> Judged:
    result = {"drifts": drifts, "notes": {}, "seconds": [2.0, 1.0]}
    reference = {"drifts": {}, "notes": {}, "seconds": [3.0]}
    floors = {} if floor is None else dict.fromkeys(drifts, Floor(floor, floor, 0))
    cell = Cell(id="x", title="x", group=group, runs=(Run(subject="x", pipeline="x"),))
    return judge(cell, result, reference, floors)


def test_words_follow_the_floor() -> None:
    assert word({"codes/out@0": drift(0.0, bitwise=True)}, 1e-6).word is Word.BITWISE
    assert word({"codes/out@0": drift(4.9e-6)}, 1e-6).word is Word.NOISE
    assert word({"codes/out@0": drift(5.1e-6)}, 1e-6).word is Word.MOVED
    assert word({"codes/out@0": drift(1e-6)}, 0.0).word is Word.MOVED
    assert word({"codes/out@0": drift(2**-24)}, 0.0).word is Word.NOISE  # the rounding of the result itself
    assert word({"codes/out@0": drift(1e-9)}, None).word is Word.MOVED
    assert word({"codes/out@0": drift(0.0, structural="shape")}, 1.0).word is Word.MOVED
    assert word({}, 1.0).word is Word.ERROR


def test_the_weights_after_an_update_are_held_together() -> None:
    """Of a small bias one element may move by the learning rate in this run and not in any one-ULP run."""
    quiet, loud = drift(1e-9), drift(1e-4)
    run, empty = Run(subject="x", pipeline="x"), {"notes": {}, "seconds": []}
    noise = Cell(id="ulp 1", title="", group=FLOOR, runs=(run,), against="baseline")
    seen: Result = {"drifts": {"weights/a@0": loud, "weights/b@0": quiet}, **empty}
    floors = noise_floors([noise], {"ulp 1": seen})["baseline"]
    assert list(floors) == ["weights@0"]
    for a, b, expected in (
        (loud, {**loud, "norm": 1e-3}, Word.NOISE),
        ({**loud, "rel_l2": 1e-3}, quiet, Word.MOVED),
        ({**loud, "max_abs": 1e-3}, quiet, Word.MOVED),
        (quiet, drift(0.0, structural="shape"), Word.MOVED),
    ):
        result = {"drifts": {"weights/a@0": a, "weights/b@0": b}, **empty}
        assert judge(replace(noise, group=""), result, empty, floors).word is expected


def test_the_cost_of_a_control_is_time_with_it_over_time_without() -> None:
    assert word({"codes/out@0": drift(1.0)}, 1.0, KERNELS).cost == pytest.approx(3.0)
    assert word({"codes/out@0": drift(1.0)}, 1.0, RANDOM).cost is None  # to seed costs nothing


def test_a_tensor_without_a_floor_is_no_noise() -> None:
    """One-ULP runs never reach it, so nothing says that it may differ."""
    result = {"drifts": {"codes/out@0": drift(1e-9), "data/image@0": drift(1e-9)}, "notes": {}, "seconds": []}
    floors = {"codes/out@0": Floor(1.0, 1.0, 0)}
    cell = Cell(id="x", title="x", group="", runs=(Run(subject="x", pipeline="x"),))
    assert judge(cell, result, {"notes": {}, "seconds": []}, floors).word is Word.MOVED


def test_effects_are_distances_over_all_tensors_of_the_last_step() -> None:
    parts = {"codes/a@0": drift(9.0), "codes/a@1": drift(0.3), "codes/b@1": drift(0.4)}
    assert distances(parts)["codes"] == pytest.approx(((0.6**2 + 0.8**2) ** 0.5, 8**0.5))


def test_the_first_operation_that_moved_is_found() -> None:
    log = [
        ["aten.mm", "model.a", "a.py:1", False, [[[2, 3], "x"]]],
        ["aten.add", "model.b", "a.py:2", False, [[[2, 3], "y"]]],
    ]
    other = [log[0], [*log[1][:4], [[[2, 3], "z"]]]]
    assert first_moved(log, log) is None
    moved = first_moved(log, other)
    assert moved is not None
    assert (moved.op, moved.module, moved.compared, moved.changed) == ("aten.add", "model.b", 1, False)
    shorter = first_moved(log, log[:1])
    assert shorter is not None
    assert shorter.changed


def test_of_a_batch_only_what_is_laid_out_by_sample_is_compared() -> None:
    alone = [["aten.mm", "", "", False, [[[1, 3], "x"]]], ["aten.t", "", "", False, [[[3, 1], "y"]]]]
    three = [["aten.mm", "", "", False, [[[3, 3], "x"]]], ["aten.t", "", "", False, [[[3, 3], "other"]]]]
    assert first_moved(alone, three, share=3) is None


def test_a_watch_sees_one_flipped_bit_and_a_permutation(tmp_path) -> None:
    value = torch.arange(6.0).reshape(2, 3) + 1
    first = Watch(keep=True)
    first.put("codes", {"out": value})
    first.write(tmp_path / "first")
    moved = value.clone()
    moved[0, 0] = torch.nextafter(moved[0, 0], torch.tensor(9.0))
    for changed, same in ((value.clone(), True), (moved, False), (value.flip(1), False)):
        second = Watch(reference=tmp_path / "first")
        second.put("codes", {"out": changed})
        assert second.drifts["codes/out@0"]["bitwise"] is same
        assert (second.digests == first.digests) is same


def test_what_stays_within_noise_is_not_ranked() -> None:
    threads = judged("threads 2", word=Word.NOISE, cause="threads", loss=1e-9)
    text = answer("toy", [threads], shares([threads]))
    assert "All that varied, measured one by one, stayed within the noise floor (threads)" in text
    assert "accounts for" not in text
    window = judged("window", cause="window", loss=0.1)
    assert "One cause accounts for 100 % of the variation" in answer(
        "toy", [threads, window], shares([threads, window])
    )
