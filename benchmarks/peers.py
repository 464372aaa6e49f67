"""The audit of a pair against its peers, on two ResNet-50, all in one run.

`python -m benchmarks.peers` makes an environment of its own (.cache/bench-env, which sees the project's packages and
adds the peers at the versions of peers-constraints.txt), runs each tool in fresh processes and prints a table; with
`--save` it also goes into docs/benchmarks.md. Time: plain pair and tool in turns, after one of each that does not
count, medians. Memory: peak of a process that does nothing else, against one that runs the plain pair; medians too.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import sysconfig
import time
import venv
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers_tools import CHANGED, TOOLS, Workload
from parity.files import ROOT, write_atomically

ENVIRONMENT = ROOT / ".cache" / "bench-env"
PINS = ROOT / "benchmarks" / "peers-constraints.txt"
PAGE = ROOT / "docs" / "benchmarks.md"
MARK = "<!-- peers: written by python -m benchmarks.peers --save -->"
END = "<!-- end of peers -->"


def main() -> None:
    """Measure all tools, or in a child process one of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tools", nargs="*", default=list(TOOLS), choices=list(TOOLS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--timeout", type=int, default=1800, help="seconds for one process")
    parser.add_argument("--save", action="store_true", help="also write the table into docs/benchmarks.md")
    parser.add_argument("--child", choices=[*TOOLS, "plain", "plain forward"], help=argparse.SUPPRESS)
    parser.add_argument("--what", choices=("time", "memory"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        torch.set_num_threads(arguments.threads)
        print(json.dumps(_times(arguments) if arguments.what == "time" else _memory(arguments.child)))
        return
    python = environment()
    plain = {backward: _peak(python, _plain(backward), arguments) for backward in (True, False)}
    rows = []
    for name in arguments.tools:
        rows.append(_row(name, python, plain, arguments))
        if arguments.save:  # what is measured is kept if the rest is interrupted
            save(table(rows, arguments))
    print(table(rows, arguments))


def environment() -> Path:
    """The interpreter of the benchmark's own environment, made on first need."""
    python, installed = ENVIRONMENT / "bin" / "python", ENVIRONMENT / PINS.name
    if installed.exists() and installed.read_bytes() == PINS.read_bytes():
        return python
    venv.create(ENVIRONMENT, with_pip=True)
    site = next((ENVIRONMENT / "lib").glob("python3*")) / "site-packages"
    (site / "project.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")  # torch is not installed twice
    command = [python, "-m", "pip", "install", "--quiet", "--requirement", PINS]
    subprocess.run(list(map(str, command)), check=True)
    write_atomically(installed, PINS.read_bytes())
    return python


def table(rows: list[dict[str, str]], arguments: argparse.Namespace) -> str:
    """The rows as a Markdown table, below what they were measured on."""
    cpu = next(
        (ln.split(":")[1].strip() for ln in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in ln), ""
    )
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, {cpu}, {os.cpu_count()} cores (load {os.getloadavg()[0]:.0f}), "
        f"{arguments.threads} thread, torch {torch.__version__}, median of {arguments.repeats}; {_pins()}.",
        "",
        "| " + " | ".join(rows[0]) + " |",
        "|" + "---|" * len(rows[0]),
        *("| " + " | ".join(row.values()) + " |" for row in rows),
    ]
    return "\n".join(lines)


def save(text: str) -> None:
    """Put the table between the two marks of docs/benchmarks.md."""
    head, mark, rest = PAGE.read_text(encoding="utf-8").partition(MARK)
    _, end, tail = rest.partition(END)
    if not mark or not end:
        raise SystemExit(f"{PAGE} lacks the lines {MARK} and {END}")
    write_atomically(PAGE, f"{head}{MARK}\n\n{text}\n\n{END}{tail}".encode())


def _row(name: str, python: Path, plain: dict[bool, Any], arguments: argparse.Namespace) -> dict[str, str]:
    tool = TOOLS[name]
    run = f"{'forward + backward' if tool.backward else 'forward'}: {tool.figures}"
    times, memory = _child(python, name, "time", arguments), _peak(python, name, arguments)
    base = plain[tool.backward]
    if error := times.get("error") or memory.get("error") or base.get("error"):
        return {
            "tool": name,
            "compared": run,
            "time": "-",
            "CPU time": "-",
            "memory": "-",
            "blames first": "failed",
            "notes": error,
        }
    blamed = times["blamed"].replace("|", "/")
    return {
        "tool": name,
        "compared": run,
        "time": f"{times['wall']:.2f}",
        "CPU time": f"{times['cpu']:.2f}",
        "memory": f"{memory['peak'] / base['peak']:.2f}",
        "blames first": "right" if CHANGED in blamed else "wrong or nameless",
        "notes": f"`{blamed[:110]}`; {times['seconds']:.1f} s, {memory['peak']:.0f} MB",
    }


def _plain(backward: bool) -> str:
    return "plain" if backward else "plain forward"


def _peak(python: Path, name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Median peak memory of fresh processes, or the error of one of them."""
    found = [_child(python, name, "memory", arguments) for _ in range(arguments.repeats)]
    failed = [part for part in found if "error" in part]
    return failed[0] if failed else {"peak": statistics.median(part["peak"] for part in found)}


def _child(python: Path, name: str, what: str, arguments: argparse.Namespace) -> dict[str, Any]:
    command = [str(python), "-m", "benchmarks.peers", "--child", name, "--what", what]
    command += ["--repeats", str(arguments.repeats), "--threads", str(arguments.threads)]
    settings = os.environ | {"OMP_NUM_THREADS": str(arguments.threads), "PYTHONPATH": str(ROOT)}
    print(f"{name}: {what}", file=sys.stderr, flush=True)
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=arguments.timeout, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {arguments.timeout} s"}
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["no message"])[-1][:200].replace("|", "/")}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _times(arguments: argparse.Namespace) -> dict[str, Any]:
    work, tool = Workload(), TOOLS[arguments.child]
    found: list[tuple[float, float, float]] = []
    blamed: list[str] = []
    for number in range(arguments.repeats + 1):
        plain = _timed(lambda: work.plain(tool.backward))
        work.clear()
        audit = _timed(lambda: blamed.append(tool.audit(work)))
        work.clear()
        if number:
            found.append((audit[0] / plain[0], audit[1] / plain[1], audit[0]))
    wall, cpu, seconds = (statistics.median(column) for column in zip(*found, strict=True))
    return {"wall": wall, "cpu": cpu, "seconds": seconds, "blamed": blamed[-1]}


def _timed(run: Any) -> tuple[float, float]:
    """Seconds of wall time, and of processor time of this process and the children it waited for."""
    start, before = time.perf_counter(), _processor()
    run()
    return time.perf_counter() - start, _processor() - before


def _processor() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in used)


def _memory(name: str) -> dict[str, float]:
    work = Workload()
    if name in TOOLS:
        TOOLS[name].audit(work)
    else:
        work.plain(name == "plain")
    return {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _pins() -> str:
    lines = [line.strip() for line in PINS.read_text().splitlines()]
    ours = f"numba {metadata.version('numba')}"
    return ", ".join([ours, *(line.replace("==", " ") for line in lines if line and not line.startswith("#"))])


if __name__ == "__main__":
    main()
