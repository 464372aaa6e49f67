"""A handful of the bugs and harmless variants on the real pipelines; `nox -s selftest` runs them all."""

import pytest
from rich.console import Console

from parity.selftest.pool import CannotTell
from parity.selftest.session import Wanted, selftest
from parity.selftest.verdicts import Fate

COARSE = (
    "c-bgr-kept,c-lid-index,c-adam-eps,c-stray-draw,c-dropout-at-evaluation,c-no-position,c-pi-3.1416,c-joints-matmul"
)
DETAIL = "d-condition-order,d-flip-not-detached,d-targets-swapped,d-erosion-3x3,d-photograph-in-place,d-adam-betas-g"
DETAIL += ",d-displacements-first"


@pytest.mark.parametrize(
    ("pipeline", "names"),
    [
        pytest.param("coarse", COARSE, id="coarse", marks=pytest.mark.slow),
        pytest.param("detail", DETAIL, id="detail", marks=pytest.mark.long),
    ],
)
def test_bugs_are_placed_and_harmless_changes_let_through(pipeline, names):
    wanted = Wanted(pipeline=pipeline, only=frozenset(names.split(",")))
    if wanted.specs()[0, "eval" if pipeline == "coarse" else "detail"].batch != wanted.batch:
        pytest.skip("the pixels of the bundled clip cannot be had here")
    try:
        result = selftest(wanted, command="test", console=Console(quiet=True))
    except CannotTell as error:
        pytest.skip(str(error))
    assert not result.failures
    assert {item.id for item in (*result.bugs, *result.harmless)} == wanted.only
    assert Fate.PLACED in {bug.fate for bug in result.bugs}
    assert result.exit_code == 0
