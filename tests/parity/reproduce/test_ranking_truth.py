"""Shares and their sum against variances that are known beforehand."""

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor

from parity.environment import isolated_numerics
from parity.reproduce.cell import Cell
from parity.reproduce.engine import Engine
from parity.reproduce.judge import Judged, judge
from parity.reproduce.ranking import explained, measured_directly, shares, variances
from parity.reproduce.results import SubjectResults
from parity.reproduce.run import Run
from parity.reproduce.session import Request, reproduce
from parity.reproduce.watch import Watch
from tests.parity.reproduce.test_matrix import here
from tests.parity.reproduce.toy_draws import PARTS, SIZE

FIVE_SIGMA = 5 * (2 / SIZE) ** 0.5  # half the squared distance of two normal vectors: mean n, variance 2 n


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> SubjectResults:
    folder = tmp_path_factory.mktemp("cells")
    names = "as shipped 2,as shipped 3,python unseeded,numpy unseeded,torch unseeded"
    request = Request(subject="tests.parity.reproduce.toy_draws:train", pipeline="coarse", cells=names)
    with isolated_numerics():
        engine = Engine(here, jobs=1, folder=folder)
        return reproduce(request, engine, command="test", console=Console(file=io.StringIO())).subjects[0]


@pytest.mark.parametrize("quantity", PARTS)
def test_shares_of_independent_causes_are_their_known_parts_of_the_variance(
    found: SubjectResults, quantity: str
) -> None:
    truth = {name: factor**2 for name, factor in PARTS[quantity].items()}
    got = {share.cause.split()[2]: share.by_quantity[quantity] for share in found.shares}
    for name in ("python", "numpy", "torch"):
        wanted = truth.get(name, 0.0) / sum(truth.values())
        assert got[name] == pytest.approx(wanted, rel=2 * FIVE_SIGMA)


@pytest.mark.parametrize("quantity", PARTS)
def test_the_variance_between_runs_as_shipped_is_the_known_total_and_the_parts_explain_it(
    found: SubjectResults, quantity: str
) -> None:
    total = SIZE * sum(factor**2 for factor in PARTS[quantity].values())
    assert found.direct[quantity] == pytest.approx(total, rel=FIVE_SIGMA)
    assert found.explained[quantity] == pytest.approx(1.0, rel=2 * FIVE_SIGMA)


def test_causes_that_work_through_each_other_add_up_to_more_than_the_total(tmp_path: Path) -> None:
    """y = 3 a + b + 2 a b: the total is 9 + 1 + 4, each cause alone moves its own part and all of the product's."""
    draw = torch.Generator().manual_seed(0)
    a, b, other_a, other_b = torch.randn(4, SIZE, generator=draw)
    cells = judged(
        tmp_path, {"window": (other_a, b), "order": (a, other_b), "as shipped 2": (other_a, other_b)}, (a, b)
    )
    got = explained(variances(cells), measured_directly(cells))
    assert got["codes"] == pytest.approx((13 + 5) / 14, rel=4 * FIVE_SIGMA)  # products have heavier tails
    assert {share.cause: share.share for share in shares(cells)}["window"] == pytest.approx(13 / 18, rel=2 * FIVE_SIGMA)


def judged(folder: Path, runs: dict[str, tuple[Tensor, Tensor]], baseline: tuple[Tensor, Tensor]) -> list[Judged]:
    def seen(a: Tensor, b: Tensor, **known: object) -> dict[str, object]:
        watch = Watch(**known)
        watch.put("codes", {"out": 3 * a + b + 2 * a * b})
        if watch.keep:
            watch.write(folder)
        return {"drifts": watch.drifts, "notes": {}, "seconds": []}

    reference, found = seen(*baseline, keep=True), []
    for id, values in runs.items():
        cause = "" if id.startswith("as shipped") else id
        cell = Cell(id=id, title=id, group="", runs=(Run(subject="x", pipeline="x"),), cause=cause)
        found.append(judge(cell, seen(*values, reference=folder), reference, {}))
    return found


def test_references_of_different_size_are_measured_by_one_scale() -> None:
    """Relative to itself the run as shipped moves little; in the quantity's own units it moves as much as its cause."""
    common = {"title": "", "group": "", "word": "not the same", "reason": "", "against": ""}
    shipped = Judged(id="as shipped 2", effects={"loss": 0.01}, distances={"loss": 5.0}, **common)
    window = Judged(id="window", cause="window", effects={"loss": 10.0}, distances={"loss": 5.0}, **common)
    assert explained(variances([window]), measured_directly([shipped])) == {"loss": pytest.approx(1.0)}
