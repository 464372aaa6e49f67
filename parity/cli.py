"""What the commands of `python -m parity` share."""

from __future__ import annotations

import shlex
import sys

from parity.files import ROOT

REPORTS = ROOT / "reports"


def command_line() -> str:
    """The command that is running, to be repeated or shown."""
    return shlex.join(["python", "-m", "parity", *sys.argv[1:]])
