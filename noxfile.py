import hashlib
import os
import subprocess
import sys
from pathlib import Path

import nox

nox.options.sessions = ["parity", "tests"]
ROOT = Path(__file__).parent
ENV = ROOT / ".venv"
BIN = ENV / ("Scripts" if os.name == "nt" else "bin")
PINS = ("pyproject.toml", "constraints.txt")


def python(session: nox.Session) -> str:
    """The interpreter all sessions share: torch alone is 5 GB, so one environment serves them all."""
    stamp = ENV / "installed.sha256"
    wanted = hashlib.sha256(b"".join((ROOT / name).read_bytes() for name in PINS)).hexdigest()
    interpreter = str(BIN / "python")
    if not stamp.exists() or stamp.read_text() != wanted:
        if not (BIN / "python").exists():
            subprocess.run([sys.executable, "-m", "venv", str(ENV)], check=True)
        install = (interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        session.run(*install, "--upgrade", "pip>=25.1", external=True)
        session.run(*install, "-c", "constraints.txt", "-e", ".", "--group", "dev", external=True)
        stamp.write_text(wanted)
    return interpreter


@nox.session(venv_backend="none")
def parity(session: nox.Session) -> None:
    """Audit modern against legacy on the bundled clip; writes reports/ (arguments go to `python -m parity run`)."""
    session.run(python(session), "-m", "parity", "run", *session.posargs, external=True)


@nox.session(venv_backend="none")
def reproduce(session: nox.Session) -> None:
    """Switch every cause of variation alone, both forks and modern (half an hour; takes finished cells up again)."""
    session.run(python(session), "-m", "parity", "reproduce", "--resume", *session.posargs, external=True)


@nox.session(venv_backend="none")
def conform(session: nox.Session) -> None:
    """Check both subjects against the recorded vectors of the original code (detail: 15 minutes or more, 11 GB)."""
    for folder in ("coarse", "deca_base", "detail"):
        session.run(
            python(session),
            "-m",
            "parity",
            "conform",
            f"fixtures/conformance/{folder}",
            *session.posargs,
            external=True,
        )


@nox.session(venv_backend="none")
def selftest(session: nox.Session) -> None:
    """Plant bugs and harmless changes; the audit must tell them apart (a quarter of an hour, two processes of 4 GB)."""
    session.run(python(session), "-m", "parity", "selftest", *session.posargs, external=True)


@nox.session(venv_backend="none")
def selftest_full(session: nox.Session) -> None:
    """The self-test with every detector and three seeds; measures the noise floors of the other two (hours, 10 GB)."""
    full = ("--full", "--seeds", "0,1,2", "--measure")
    session.run(python(session), "-m", "parity", "selftest", *full, *session.posargs, external=True)


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """Run the fast tests (arguments go to pytest; `-- -m ""` runs the slow ones too)."""
    session.run(python(session), "-m", "pytest", *session.posargs, external=True)


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Check style and formatting."""
    interpreter = python(session)
    session.run(interpreter, "-m", "ruff", "check", ".", external=True)
    session.run(interpreter, "-m", "ruff", "format", "--check", ".", external=True)


@nox.session(venv_backend="none")
def types(session: nox.Session) -> None:
    """Type-check modern, parity and fixtures."""
    session.run(python(session), "-m", "mypy", *session.posargs, external=True)
