"""Cells spread over several machines by Dask (optional extra `cluster`).

Every worker runs in a checkout of the same commit and sees `.cache/reproduce` under the same path, for example on a
shared file system: a cell is compared where it runs, with the tensors its reference left there.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from parity.reproduce.run import Run


class Cluster:
    """Carries out jobs as tasks of a Dask scheduler.

    done: address of a worker -> how many jobs it has carried out.
    """

    def __init__(self, client: Any, limit: float | None = None) -> None:
        self._client, self._limit, self.done = client, limit, Counter[str]()

    def __call__(self, job: Path, run: Run) -> None:
        """Run the job on some worker, in a fresh process there, and wait for it."""
        worker = self._client.submit(perform_here, str(job), run.dump(), self._limit, pure=False).result()
        self.done[worker] += 1

    def stop(self) -> None:
        """Take back what is queued; a process that runs on a worker ends by itself."""
        self._client.close()


def perform_here(job: str, run: dict[str, Any], limit: float | None) -> str:
    """What a worker does: the same as this machine would. Returns the worker's address."""
    from distributed import get_worker

    from parity.reproduce.engine import Processes
    from parity.reproduce.run import load_run

    Processes(limit)(Path(job), load_run(run))
    return str(get_worker().address)


def connected(address: str, limit: float | None = None) -> Cluster:
    """A connection to the scheduler at `address`; `limit` as of `parity.reproduce.engine.Processes`.

    Raises:
        ValueError: Dask is not installed, or nobody answers.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ValueError("--cluster needs Dask: pip install -c constraints.txt -e '.[cluster]'") from error
    try:
        return Cluster(Client(address, timeout="10s"), limit)
    except OSError as error:
        raise ValueError(f"--cluster {address}: no Dask scheduler answers there ({error})") from error
