"""The audit as pytest items: which there are, the one run behind them, and recording goldens."""

from __future__ import annotations

from itertools import product

import pandas as pd
import pytest
from rich.console import Console

from parity.audit import crew, traced
from parity.golden import diff_goldens, golden_folder, golden_index, refuse_altered_legacy, remove_orphans
from parity.golden_check import name_of, record_golden
from parity.pipelines import PIPELINES
from parity.schema import Results, Row
from parity.session import Request, audit, progress, usable_batch
from parity.verdict import SAME

MODES = ("isolated", "chained", "repeat:legacy", "repeat:modern", "golden:legacy", "golden:modern")
BUNDLED = ("carphone_0040",)


def request_of(config: pytest.Config) -> Request:
    """The audit that the command line's options describe."""
    return Request(
        batch=config.getoption("--parity-batch"),
        pipeline=config.getoption("--parity-pipeline"),
        device=config.getoption("--parity-device"),
        seed=config.getoption("--parity-seed"),
        full=config.getoption("--parity-full"),
    )


def items(config: pytest.Config) -> list[tuple[str, str, str]]:
    """(variant, mode, stage) of every item; the joined id is what a report row's repeat command names."""
    request = request_of(config)
    variants = {name: PIPELINES[spec.pipeline].names for name, spec in request.variants(request.batch).items()}
    return [(name, mode, stage) for name, stages in variants.items() for mode, stage in product(MODES, stages)]


def session_results(config: pytest.Config) -> Results:
    """Record goldens first if asked to, then audit."""
    from parity.plugin import lines_key

    lines = config.stash.setdefault(lines_key, [])
    console = Console(stderr=True)
    if config.getoption("--regen"):
        lines += ["", "goldens recorded from legacy:", record(request_of(config), console).to_string(index=False)]
    results = audit(request_of(config), command="pytest parity/", console=console)
    lines += ["", results.answer]
    return results


def record(request: Request, console: Console) -> pd.DataFrame:
    """Write the goldens of every variant of `request` and tell new, changed, unchanged and orphaned ones apart.

    Goldens of the default and of the full run belong together, so none is orphaned by recording only one of them.

    Raises:
        GoldenError: the legacy tree is altered; nothing is written then.
    """
    refuse_altered_legacy()
    folder, batch = golden_folder(device=request.device), usable_batch(request.batch)[0]
    before, written = golden_index(folder), set()
    with crew() as members, progress(console, {}) as say:
        for variant, spec in request.variants(batch).items():
            with say(f"recording golden {name_of(spec, variant)}"):
                place = traced(spec, members, ("legacy",))["legacy"]
                written.add(members.submit("legacy", record_golden, spec, variant, place).result().stem)
    after = golden_index(folder)
    told = diff_goldens(before, after)
    belonging = written | known_names()
    told.loc[~told["golden"].isin(belonging), "status"] = "orphaned"
    remove_orphans(folder, belonging, full_run=request.full)
    return told


def known_names() -> set[str]:
    """Every golden this repository may hold: default and full runs of the bundled batch."""
    requests = [Request(batch=batch, full=full) for batch in BUNDLED for full in (False, True)]
    return {name_of(spec, variant) for each in requests for variant, spec in each.variants(each.batch).items()}


def rows_of(results: Results, item: tuple[str, str, str]) -> list[Row]:
    """The rows behind one item."""
    variant, mode, stage = item
    return [row for row in results.rows if (row.variant, row.mode, row.stage) == (variant, mode, stage)]


def failures(rows: list[Row]) -> list[str]:
    """One line per row that is not the same."""
    return [f"{row.id}: {row.verdict}, {row.reason}" for row in rows if row.verdict not in SAME]
