"""What the audit's recording costs: one training step with taps against the subject's own step without.

`python -m benchmarks.tracing [--pipeline coarse|detail] [--repeats 5]` runs each subject in a process of its own. Times
are medians over interleaved repeats in one process, of processor seconds, which other work on the machine disturbs
least; peak memory is that of a further process for each kind of step, networks included. Three steps:

* bare: the subject's own loop, nothing recorded;
* traced: every tensor of the contract copied out, which is what recording needs;
* evidence: what an audit records, that is also the gradient of each loss term and digests of all that is left behind,
  and the trace written to disk.

Where a trace remembers equal rasters (the detail fork), the bare step does so too: the search for visible faces would
otherwise hide what recording costs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from parity import worker
from parity.randomness import seed_everything
from parity.subject import Observable, Plan
from parity.trace import save_trace
from parity.worker import RunSpec

_ROOT = Path(__file__).resolve().parents[1]
_SIDES, _KINDS = ("legacy", "modern"), ("bare", "traced", "evidence")
_BATCH = "carphone_0040"
_SAMPLE = 0.005  # seconds between looks at the memory


def main() -> None:
    """Parse the command line; run both sides, or measure one thing in this process."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pipeline", choices=("coarse", "detail"), default="coarse")
    parser.add_argument("--batch", default=_BATCH, help="as `python -m parity` takes it")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--side", choices=_SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--memory", choices=_KINDS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(_memory(arguments) if arguments.memory else _times(arguments)))
        return
    for side in _SIDES:
        times = _in_process(arguments, side)
        peaks = {kind: _in_process(arguments, side, kind)["peak_gb"] for kind in _KINDS}
        for kind in _KINDS:
            time_ratio, peak_ratio = times[kind] / times["bare"], peaks[kind] / peaks["bare"]
            print(
                f"{arguments.pipeline} {side:7s} {kind:9s} {times[kind]:7.2f} s {time_ratio:6.3f} x"
                f"   peak {peaks[kind]:6.3f} GB {peak_ratio:6.3f} x"
            )


def bare_peaks(pipeline: str) -> dict[str, float]:
    """Side -> peak memory in GB of a process that makes bare steps and nothing else."""
    arguments = argparse.Namespace(pipeline=pipeline, batch=_BATCH, repeats=0)
    return {side: _in_process(arguments, side, "bare")["peak_gb"] for side in _SIDES}


def _times(arguments: argparse.Namespace) -> dict[str, float]:
    spec, subject = _built(arguments)
    seconds: dict[str, list[float]] = {kind: [] for kind in _KINDS}
    for repeat in range(arguments.repeats + 1):  # the first round warms up
        for kind in _KINDS:
            start = time.process_time()
            _step(subject, spec, kind)
            if repeat:
                seconds[kind].append(time.process_time() - start)
    return {kind: statistics.median(values) for kind, values in seconds.items()}


def _memory(arguments: argparse.Namespace) -> dict[str, float]:
    """Growth of the resident memory during one step, after one step that warmed up, largest of all looks."""
    spec, subject = _built(arguments)
    _step(subject, spec, arguments.memory)
    with _watched() as peak:
        _step(subject, spec, arguments.memory)
    return {"peak_gb": peak[0] / 2**30}


def _built(arguments: argparse.Namespace) -> tuple[RunSpec, Observable]:
    spec = RunSpec(batch=arguments.batch, pipeline=arguments.pipeline)
    return spec, worker._subject(arguments.side, spec)


def _step(subject: Observable, spec: RunSpec, kind: str) -> None:
    batch = worker.batch_of(spec)
    if kind == "bare":
        economical: Callable[[], Any] = getattr(subject, "economical", nullcontext)
        with economical(), subject.bare() as loop:
            seed_everything(spec.seed)
            loop.step(batch, 0)
        return
    trace = subject.trace(batch, Plan(term_gradients=kind == "evidence", digests=kind == "evidence"))
    if kind == "evidence":
        with tempfile.TemporaryDirectory() as folder:
            save_trace(trace, Path(folder) / "trace")


@contextmanager
def _watched() -> Iterator[list[float]]:
    """The largest resident memory seen inside, in bytes; Linux only."""
    statm, page = Path("/proc/self/statm"), os.sysconf("SC_PAGE_SIZE")
    peak, stop = [0.0], threading.Event()

    def watch() -> None:
        while not stop.is_set():
            peak[0] = max(peak[0], int(statm.read_text().split()[1]) * page)
            time.sleep(_SAMPLE)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def _in_process(arguments: argparse.Namespace, side: str, memory: str | None = None) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.tracing", "--side", side, "--pipeline", arguments.pipeline]
    command += ["--batch", arguments.batch, "--repeats", str(arguments.repeats)]
    command += ["--memory", memory] if memory else []
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the {side} side failed with exit code {done.returncode}")
    figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


if __name__ == "__main__":
    main()
