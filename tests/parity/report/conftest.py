from __future__ import annotations

import pytest

from parity.schema import Results
from tests.parity.report.sample import make_results


@pytest.fixture(scope="session")
def results() -> Results:
    """About 2,400 rows with a planted drift."""
    return make_results()


@pytest.fixture(scope="session")
def small() -> Results:
    return make_results(keys=2)
