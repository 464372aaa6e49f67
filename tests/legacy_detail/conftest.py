import pytest

from parity.legacy_detail_subject import build_legacy_detail
from tests.legacy_detail.detail_setup import setup


@pytest.fixture(scope="session")
def subject():
    """The detail fork without a head; tests leave it as they found it."""
    return build_legacy_detail(setup())


@pytest.fixture
def trainer(subject):
    return subject._trainer
