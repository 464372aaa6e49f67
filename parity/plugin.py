"""pytest glue: the options of the parity suite, its one audit per session, and `--regen`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from parity.schema import Results


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register `--regen` and the options that choose what the parity suite runs."""
    group = parser.getgroup("parity")
    regen = "record goldens of the selected variants from legacy (all of them, not only failing ones); see README"
    group.addoption("--regen", action="store_true", help=regen)
    group.addoption(
        "--parity-batch", default="carphone_0040", help="batch of the audit (see `python -m parity run --help`)"
    )
    group.addoption("--parity-pipeline", default="both", help="coarse, detail or both")
    group.addoption("--parity-seed", default=0, type=int, help="seed of the audit")
    group.addoption("--parity-device", default="cpu", help="device of the audit")
    group.addoption("--parity-full", action="store_true", help="five training steps, repeats in fresh processes")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to write goldens from several workers at once; let pytest-regressions rewrite its tables too."""
    if not config.getoption("--regen"):
        return
    if hasattr(config, "workerinput") or config.getoption("numprocesses", None):
        raise pytest.UsageError("--regen writes goldens and does not run under xdist; leave -n away")
    config.option.regen_all = True


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One item per (variant, mode, stage), with the id that the report's rows print."""
    if "parity_item" not in metafunc.fixturenames:
        return
    from parity.suite import items

    found = items(metafunc.config)
    metafunc.parametrize("parity_item", found, ids=["-".join(item) for item in found])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip GPU tests visibly where there is no CUDA."""
    import torch

    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session")
def parity_results(pytestconfig: pytest.Config) -> Results:
    """Results of the audit that the options ask for, run once per session."""
    from parity.suite import session_results

    return session_results(pytestconfig)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what `--regen` did and the answer of the audit."""
    for line in config.stash.get(lines_key, []):
        terminalreporter.write_line(line)


lines_key = pytest.StashKey[list[str]]()
