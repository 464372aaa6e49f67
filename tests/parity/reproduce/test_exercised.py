"""Each chance switch reaches its draw, and a cell whose switch reaches nothing never says `bitwise`."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils import data

from parity.environment import isolated_numerics
from parity.reproduce import chance, numerics
from parity.reproduce.evidence import NOTE, NOTEBOOK, WatchedData, lines
from parity.reproduce.exercised import unexercised
from parity.reproduce.operations import RACERS
from parity.reproduce.run import Run

RUN = Run(subject="x", pipeline="x")


def evidence(run: Run, work: Any = lambda: None) -> dict[str, Any]:
    """What a process of this run would note while it does `work`; same bytes throughout."""
    with isolated_numerics():
        NOTEBOOK.clear()
        numerics.apply(run)
        with chance.generators(run), numerics.listing(run):
            work()
        noted = NOTEBOOK.written()
    return {"drifts": {"data/image@0": {"bitwise": True}}, "notes": {NOTE: noted}}


DRAWS = {"python": random.random, "numpy": np.random.rand, "torch": lambda: torch.rand(1)}


@pytest.mark.parametrize("name", DRAWS)
def test_a_generator_left_unseeded_is_exercised_only_where_somebody_draws_from_it(name: str) -> None:
    changed = replace(RUN, unseeded=(name,))
    assert unexercised(evidence(changed, DRAWS[name]), evidence(RUN, DRAWS[name])) == ""
    idle = unexercised(evidence(changed), evidence(RUN))
    assert idle == f"nothing in this run draws from the generator of {name}"


@pytest.mark.parametrize("name", DRAWS)
def test_an_unseeded_generator_ignores_the_subjects_own_seeding(name: str) -> None:
    def seeds_itself() -> float:
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)
        return float(DRAWS[name]())

    found: list[float] = []
    for _ in range(2):
        evidence(replace(RUN, unseeded=(name,)), lambda: found.append(seeds_itself()))
        evidence(RUN, lambda: found.append(seeds_itself()))
    assert found[0] != found[2]
    assert found[1] == found[3]


def test_draws_before_the_subject_seeds_itself_count() -> None:
    def work() -> None:
        random.random()
        random.seed(0)

    assert unexercised(evidence(replace(RUN, unseeded=("python",)), work), evidence(RUN, work)) == ""


def test_sites_come_out_other_than_seeded_and_leave_all_other_draws_alone() -> None:
    layer = nn.Sequential(nn.Linear(64, 64), nn.Dropout(0.5))
    aside = chance.drawn_aside(layer.forward, "dropout")
    other = chance.OtherRandom({"randint": "window", "shuffle": "order"})

    def work() -> None:
        aside(torch.ones(4, 64))
        with chance.other_permutation("order"):
            torch.randperm(50)
        with chance.torch_aside():
            chance.fill(layer[0], nn.Linear(64, 64))
        other.shuffle(list(range(50)))
        other.randint(1, 10**9)

    noted = evidence(replace(RUN, unseeded=("dropout",)), work)["notes"][NOTE]
    assert noted["differing"] == {"dropout": 1, "order": 2, "initialisation": 1, "window": 1}
    after: list[tuple[float, float]] = []
    for forward, shuffle in ((aside, other.shuffle), (layer.forward, random.shuffle)):

        def draws(forward: Any = forward, shuffle: Any = shuffle) -> None:
            forward(torch.ones(4, 64))
            shuffle(list(range(50)))
            after.append((random.random(), float(torch.rand(1))))

        evidence(RUN, draws)
    assert after[0] == after[1]


def test_a_site_that_is_never_drawn_or_comes_out_alike_is_not_exercised() -> None:
    silent = nn.Dropout(0.0)
    aside = chance.drawn_aside(silent.forward, "dropout")
    changed = replace(RUN, unseeded=("dropout",))
    assert unexercised(evidence(changed), evidence(RUN)) == "this draw is never made here"
    alike = unexercised(evidence(changed, lambda: aside(torch.ones(4))), evidence(RUN))
    assert alike.startswith("the draw came out like the seeded one")
    shuffled = chance.OtherRandom({"shuffle": "order"})
    lucky = evidence(replace(RUN, unseeded=("order",)), lambda: shuffled.shuffle(list(range(50))))
    assert unexercised(lucky, evidence(RUN)).startswith("the draw came out like the seeded one")
    lucky["drifts"]["data/image@0"]["bitwise"] = False
    assert unexercised(lucky, evidence(RUN)) == ""


class Draws(data.Dataset):
    def __init__(self, draws: bool) -> None:
        self._draws = draws

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> float:
        return random.random() if self._draws else float(index)


@pytest.mark.parametrize("draws", [True, False])
def test_unseeded_loading_processes_are_exercised_where_they_draw(draws: bool, tmp_path: Path) -> None:
    owner, found = type("owner", (), {"DataLoader": data.DataLoader}), []

    def load(run: Run) -> dict[str, Any]:
        def work() -> None:
            with chance.loading(run, owner, tmp_path / str(len(found))):
                found.append([float(item) for item in owner.DataLoader(Draws(draws), num_workers=run.workers)])

        return evidence(run, work)

    two = replace(RUN, workers=2)
    unseeded = replace(two, unseeded=("workers",))
    reference, first, second = load(two), load(unseeded), load(unseeded)
    assert reference["notes"][NOTE]["workers"]["started"] == 2
    assert (found[1] != found[2]) is draws
    reason = "" if draws else "the loading processes draw no random numbers"
    assert unexercised(first, reference) == unexercised(second, reference) == reason
    assert unexercised(reference, evidence(RUN)) == ""


def test_watched_data_notes_a_draw_once(tmp_path: Path) -> None:
    watched = WatchedData(Draws(True), tmp_path / "lines")
    assert len({watched[0], watched[1]}) == 2
    assert lines(tmp_path / "lines") == {"drew": 1}


def test_a_numeric_switch_that_no_probe_shows_is_not_exercised() -> None:
    plain = evidence(RUN)
    blind = evidence(replace(RUN, environment=(("MKL_ENABLE_INSTRUCTIONS", "AVX2"),)))  # too late in this process
    assert "have the same bytes with and without it here" in unexercised(blind, plain)
    off = evidence(replace(RUN, onednn=False))
    assert unexercised(off, plain) == "" or off["notes"][NOTE]["probes"] == plain["notes"][NOTE]["probes"]
    assert unexercised(evidence(replace(RUN, threads=2)), plain) == ""


def test_a_race_that_did_not_show_proves_nothing() -> None:
    racing, plain = evidence(replace(RUN, threads=2, deterministic=False)), evidence(replace(RUN, threads=2))
    plain["notes"][RACERS] = 1
    assert "no race showed in these two runs" in unexercised(racing, plain)
    plain["notes"][RACERS] = 0
    assert "is never called" in unexercised(racing, plain)


def test_a_reversed_listing_counts_only_where_several_files_are_listed(tmp_path: Path) -> None:
    changed = replace(RUN, listing="reversed")
    for count in range(2):
        reason = unexercised(evidence(changed, lambda: list(tmp_path.iterdir())), evidence(RUN))
        assert reason == "no folder of several files is listed", count
        (tmp_path / str(count)).touch()
    assert unexercised(evidence(changed, lambda: list(tmp_path.iterdir())), evidence(RUN)) == ""


def test_the_default_adam_on_a_cpu_is_one_of_the_named_ones() -> None:
    def adam(run: Run) -> dict[str, Any]:
        layer = nn.Linear(2, 2)
        return evidence(run, lambda: numerics.prepare(run, [torch.optim.Adam(layer.parameters())], [], [layer]))

    plain = adam(RUN)
    assert [name for name in ("fused", "foreach", "single") if unexercised(adam(replace(RUN, adam=name)), plain)] == [
        "single"
    ]
