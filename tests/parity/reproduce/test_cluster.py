"""The same matrix over a local cluster of two workers."""

from pathlib import Path

import pytest

from parity.reproduce.cluster import connected
from parity.reproduce.engine import Engine
from parity.reproduce.words import Word
from tests.parity.reproduce.test_matrix import toy, words


@pytest.mark.long
def test_two_workers_share_the_cells(tmp_path: Path) -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as machines:
        cluster = connected(machines.scheduler_address)
        found = words(toy(tmp_path, Engine(cluster, jobs=2, folder=tmp_path)))
        cluster.stop()
    assert found["nothing"] is Word.BITWISE
    assert found["python unseeded"] is Word.MOVED
    assert found["beside"] is Word.ERROR
    assert len(cluster.done) == 2, "one worker did everything"


def test_nobody_at_the_address_is_said_clearly() -> None:
    with pytest.raises(ValueError, match="no Dask scheduler answers there"):
        connected("tcp://127.0.0.1:9")
