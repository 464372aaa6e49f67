"""The last truth run beside an audit's report: shown there if it was of the same sources, inputs and settings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from parity.pipelines import PIPELINES
from parity.schema import TruthSummary
from parity.truth.run import spec_of, truth_key
from parity.truth.schema import read_truth


def stored_summary(folder: Path, batch: str, pipelines: Iterable[str]) -> TruthSummary | None:
    """What `folder`/truth.json says of an audit of `pipelines` on `batch`; None if it says nothing of these sources."""
    path = folder / "truth.json"
    if not path.exists():
        return None
    try:
        found = read_truth(path)
    except ValueError:  # of another version; the audit does not depend on it
        return None
    if any(found.keys.get(name) != truth_key(spec_of(PIPELINES[name], batch)) for name in pipelines):
        return None
    counts = {word.value: count for word, count in found.counts().items()}
    return TruthSummary(answer=found.answer, exit_code=found.exit_code, counts=counts, page="truth.html")
