"""The memory of a whole audit against that of one training step of the larger subject.

`python -m benchmarks.audit_memory [--pipeline coarse|detail]` runs `python -m parity run` and looks at every process of
it several times a second. Traces that are kept from an earlier run are not made again, so remove `.cache/traces` first.
An audit has a process for each subject, which run side by side, and one that compares. Printed: the peak of the
largest process and of all together, as ratios to the bare step of the larger subject (`benchmarks.tracing`). Memory
that processes share is counted once (proportional set size); Linux only.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.tracing import bare_peaks
from parity.files import CACHE, ROOT

_SAMPLE = 0.1  # seconds between looks


def main() -> None:
    """Run one audit and print its peaks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pipeline", choices=("coarse", "detail"), default="coarse")
    pipeline = parser.parse_args().pipeline
    if any((CACHE / "traces").glob("*")):
        print(
            "traces of an earlier run are kept in .cache/traces: what is not made again is not measured",
            file=sys.stderr,
        )
    bare = bare_peaks(pipeline)
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "parity", "run", "--pipeline", pipeline, "--out", out]
        audit = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        largest, together = _watched(audit)
    if audit.returncode:
        raise SystemExit(f"the audit ended with exit code {audit.returncode}")
    most = max(bare.values())
    print(f"{pipeline}: bare step " + ", ".join(f"{side} {peak:.2f} GB" for side, peak in bare.items()))
    for what, peak in (("largest process", largest), ("all processes", together)):
        print(f"  {what} {peak:.2f} GB, {peak / most:.2f} x")


def _watched(audit: subprocess.Popen[bytes]) -> tuple[float, float]:
    """Peak of the largest process, and of all at a time, in GB, until `audit` ends."""
    largest = together = 0.0
    while audit.poll() is None:
        now = [_size(pid) for pid in (audit.pid, *_below(audit.pid))]
        largest, together = max(largest, *now), max(together, sum(now))
        time.sleep(_SAMPLE)
    return largest, together


def _below(pid: int) -> Iterator[int]:
    """Children of a process, and theirs."""
    try:
        children = [
            int(word) for path in Path(f"/proc/{pid}/task").glob("*/children") for word in path.read_text().split()
        ]
    except OSError:  # it has just ended
        return
    for child in children:
        yield child
        yield from _below(child)


def _size(pid: int) -> float:
    """Proportional set size in GB; 0 of a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 2**20 for line in lines if line.startswith("Pss:")), 0.0)


if __name__ == "__main__":
    main()
