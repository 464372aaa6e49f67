"""The recorder is imported by its own name alone, as beside a lab's trainer."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "parity" / "recorder"))
