import pytest
from detail_setup import setup

from parity.legacy_detail_subject import build_legacy_detail


@pytest.fixture(scope="session")
def subject():
    """The detail fork without a head; tests leave it as they found it."""
    return build_legacy_detail(setup())


@pytest.fixture
def trainer(subject):
    return subject._trainer
