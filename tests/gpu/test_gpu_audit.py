"""The audit on CUDA: nothing may drift; what a side does not repeat there is `unstable`, which is no agreement."""

import pytest
from rich.console import Console

from parity.session import Request, audit, usable_batch
from parity.verdict import Verdict

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module", params=["coarse", "detail"])
def results(request):
    batch = usable_batch("carphone_0040")[0]
    wanted = Request(batch=batch, pipeline=request.param, device="cuda")
    return audit(wanted, command="pytest -m gpu", console=Console(stderr=True))


def test_nothing_drifts(results):
    drifting = [f"{row.id}: {row.reason}" for row in results.rows if row.verdict is Verdict.DRIFT]
    assert not drifting, "\n".join(drifting[:20])


def test_the_scope_names_the_device_and_what_does_not_repeat_blocks_the_claim(results):
    assert results.scope["device"] == "cuda"
    unstable = any(row.verdict is Verdict.UNSTABLE for row in results.rows)
    assert results.exit_code == (2 if unstable else 0)


def test_structure_is_that_of_the_cpu(results):
    assert not [finding.name for finding in results.structure if finding.verdict is Verdict.DRIFT]
