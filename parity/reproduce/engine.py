"""Runs cells in fresh processes, several at a time, here or through Dask; finished ones are kept and taken up again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from parity.environment import platform_key
from parity.files import CACHE, ROOT, tree_digest, write_atomically
from parity.reproduce.cell import Cell
from parity.reproduce.evidence import NOTE
from parity.reproduce.own import is_own, unchanged
from parity.reproduce.run import Run
from parity.reproduce.watch import RESULT, TENSORS
from parity.sources import closure

FOLDER = CACHE / "reproduce"
Found = Mapping[str, dict[str, Any]]  # cell id -> what its last run left
Done = Callable[[Cell, dict[str, Any]], None]


class Perform(Protocol):
    """Carries out one job, a file, in a fresh process, here or elsewhere."""

    def __call__(self, job: Path, run: Run) -> None:
        """Return when the process has ended.

        Raises:
            RuntimeError: it ended without a result; the message holds its last lines.
        """


class Processes:
    """Fresh processes on this machine; `stop` ends those that still run.

    limit: seconds after which a process is given up, as one that hangs; None waits for ever.
    """

    def __init__(self, limit: float | None = None) -> None:
        self.limit = limit
        self._lock, self._running = threading.Lock(), set[subprocess.Popen[str]]()
        self._stopped = False

    def __call__(self, job: Path, run: Run) -> None:
        """Run the job and wait for it."""
        with self._lock:
            if self._stopped:
                raise RuntimeError("stopped")
            process = subprocess.Popen(
                command(job, run),
                cwd=ROOT,
                env=environment(run),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            self._running.add(process)
        try:
            _, errors = process.communicate(timeout=self.limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)
            process.communicate()
            raise RuntimeError(f"no result after {self.limit:g} seconds; its process was ended") from None
        finally:
            with self._lock:
                self._running.discard(process)
        if process.returncode:
            last = " | ".join(errors.strip().splitlines()[-3:])
            raise RuntimeError(f"the process ended with code {process.returncode}: {last}")

    def stop(self) -> None:
        """End every process that this object started, with the loading processes it has started itself."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                os.killpg(process.pid, signal.SIGTERM)


def command(job: Path, run: Run) -> list[str]:
    """The command line of a job."""
    module = ["-m", "parity.reproduce.child", str(job)]
    if run.kind != "distribute":
        return [sys.executable, *module]
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={run.clips}"]
    return [sys.executable, *torchrun, *module]


def importable() -> list[str]:
    """Folders from which a subject of your own may be imported here, the current one among them, as absolute paths."""
    return [str(Path(folder).resolve()) for folder in ("", *os.environ.get("PYTHONPATH", "").split(os.pathsep))]


def environment(run: Run) -> dict[str, str]:
    """The variables of a run's process: ours, without any that would choose kernels, then the run's own.

    Threads that wait for others sleep instead of spinning: no number depends on it, and cells run beside each other.
    """
    chosen = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "PYTHONHASHSEED")
    kept = {
        name: value for name, value in os.environ.items() if name not in (*chosen, "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    }
    kept["OMP_WAIT_POLICY"] = "PASSIVE"
    if run.seeds:
        kept["PYTHONHASHSEED"] = "0"
    if run.threads:
        kept |= {"OMP_NUM_THREADS": str(run.threads), "MKL_NUM_THREADS": str(run.threads)}
    return kept | dict(run.environment)


@dataclass
class Engine:
    """Carries out cells.

    perform: how a job is run. jobs: how many at a time. resume: take up finished cells of the same sources.
    folder: where results are kept; every machine that takes part must see it under this path.
    """

    perform: Perform = field(default_factory=Processes)
    jobs: int = 2
    resume: bool = False
    folder: Path = FOLDER

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other engines out of the folder: two would delete what the other is about to read.

        Raises:
            ValueError: another engine is in it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(
                f"another `parity reproduce` is using {self.folder}; wait until it has ended, then run this again with "
                "--resume, which takes up its finished cells"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def run(self, cells: Sequence[Cell], done: Done) -> dict[str, dict[str, Any]]:
        """Run all cells that have runs, each after its reference; `done` is told of each result.

        A cell whose reference failed is not run: its result is the error of the reference. An interruption ends all
        processes; what is finished stays.
        """
        found: dict[str, dict[str, Any]] = {}
        waiting = [cell for cell in cells if cell.runs]
        needed = {cell.against for cell in waiting}
        by_id = {cell.id: cell for cell in waiting}
        for run in {run for cell in waiting for run in cell.runs}:
            _salt(run)  # before there are threads: parsing sources in several at once crashes Python 3.11
        _shared()
        with ThreadPoolExecutor(self.jobs) as pool:
            running: dict[Future[dict[str, Any]], Cell] = {}
            try:
                while waiting or running:
                    ready = [
                        cell
                        for cell in waiting
                        if not cell.against or cell.against in found or cell.against not in by_id
                    ]
                    for cell in ready[: self.jobs - len(running)]:
                        waiting.remove(cell)
                        running[pool.submit(self._cell, cell, by_id.get(cell.against), cell.id in needed, found)] = cell
                    if not running:
                        raise ValueError(
                            f"cells refer to each other in a circle: {', '.join(cell.id for cell in waiting)}"
                        )
                    finished, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in finished:
                        cell = running.pop(future)
                        found[cell.id] = future.result()
                        done(cell, found[cell.id])
            except BaseException:
                stop = getattr(self.perform, "stop", None)
                if stop:
                    stop()
                raise
        return found

    def _cell(self, cell: Cell, against: Cell | None, keep: bool, found: Found) -> dict[str, Any]:
        reference = self._folder(against.runs[-1], "") if against else None
        if against and "error" in found[against.id].get("notes", {}):
            return _failed(f"its reference, {against.id!r}, failed: {found[against.id]['notes']['error']}")
        outs = [self._folder(run, cell.id) for run in cell.runs]
        if keep:
            outs[-1] = self._folder(cell.runs[-1], "")
        if self.resume and (against is None or found[against.id].get("kept")):
            stored = [_stored(run, out) for run, out in zip(cell.runs, outs, strict=True)]
            whole = [result for result in stored if result]
            if len(whole) == len(stored) and (not keep or (outs[-1] / TENSORS).exists()):
                return _joined(whole) | {"kept": True}
        results: list[dict[str, Any]] = []
        for run, out in zip(cell.runs, outs, strict=True):
            last = run is cell.runs[-1]
            results.append(self._fresh(cell, run, out, reference if last else None, keep=last and keep))
            if "error" in results[-1]["notes"]:
                break
        if against and (edited := _edited(results[-1], found[against.id])):
            return _failed(f"{edited} changed after the reference, {against.id!r}, had run; run both again")
        return _joined(results)

    def _fresh(self, cell: Cell, run: Run, out: Path, reference: Path | None, *, keep: bool) -> dict[str, Any]:
        shutil.rmtree(out, ignore_errors=True)
        scratch = self.folder / "scratch" / cell.runs[0].digest(f"{_salt(run)}{cell.id}")
        if not run.resumed:
            shutil.rmtree(scratch, ignore_errors=True)
        job = out.with_suffix(".json")
        document = {
            "run": run.dump(),
            "out": str(out),
            "reference": str(reference) if reference else None,
            "keep": keep,
            "shared": str(self.folder / "shared" / _shared()),
            "scratch": str(scratch),
            "path": importable(),
        }
        write_atomically(job, json.dumps(document).encode())
        try:
            self.perform(job, run)
        except RuntimeError as error:
            return _failed(str(error))
        finally:
            if run is cell.runs[-1]:
                shutil.rmtree(scratch, ignore_errors=True)
        return dict(json.loads((out / RESULT).read_text()))

    def _folder(self, run: Run, cell: str) -> Path:
        """Where a run leaves its result; that of a reference is found without knowing its cell's name."""
        return self.folder / "runs" / run.digest(_salt(run) + cell)


@cache
def _shared() -> str:
    """A digest of the sources of what all runs share: data, weights and files."""
    return tree_digest(sorted(closure(["fixtures.clip_tree", "fixtures.legacy_files", "fixtures.weights"])))[:16]


_SALTS: dict[tuple[str, str], str] = {}


def _salt(run: Run) -> str:
    """A digest of all that shapes a run besides its own fields: sources, legacy tree, head, platform."""
    key = run.subject, run.pipeline
    if key not in _SALTS:
        infix = "" if run.pipeline == "coarse" else f"_{run.pipeline}"
        modules = ["parity.reproduce.child", "fixtures.clip_tree"]
        modules.append(run.subject.partition(":")[0] if ":" in run.subject else f"parity.{run.subject}{infix}_training")
        files = closure(modules) | ({ROOT / "legacy"} if run.subject == "legacy" else set())
        _SALTS[key] = tree_digest(sorted(files)) + platform_key()
    return _SALTS[key]


def _stored(run: Run, out: Path) -> dict[str, Any] | None:
    """A result of the same sources, if one was kept; those of your own subject are looked up file by file."""
    if not (out / RESULT).exists():
        return None
    result: dict[str, Any] = json.loads((out / RESULT).read_text())
    return result if not is_own(run.subject) or unchanged(result["notes"].get("sources")) else None


def _edited(result: Found, reference: Found) -> str:
    """A source file that is not what it was when the reference read it, or ""."""
    now, before = (part["notes"].get("sources", {}) for part in (result, reference))
    return next((name for name in now if before.get(name, now[name]) != now[name]), "")


def _joined(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The last run's result, with the updates of those that were interrupted before it."""
    return results[-1] | {"interrupted": [part["notes"].get(NOTE, {}).get("steps", {}) for part in results[:-1]]}


def _failed(message: str) -> dict[str, Any]:
    return {"digests": {}, "drifts": {}, "scalars": {}, "seconds": [], "notes": {"error": message}}
