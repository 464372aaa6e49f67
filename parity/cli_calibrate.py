"""`python -m parity calibrate`: is the factor on the noise floor right?"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from parity.files import ROOT


def calibrate(
    batch: Annotated[str, typer.Option(help="a batch with stored floors")] = "carphone_0040",
    pipeline: Annotated[str, typer.Option(help="coarse, detail or both")] = "both",
    draws: Annotated[int, typer.Option(min=0, help="fresh one-ULP draws")] = 8,
) -> None:
    """Replay legacy under harmless changes that no floor covers and hold it against the stored noise floors.

    Evidence goes to fixtures/floors/<platform>/calibration.json. Exit code 0: no false alarm at the factor in use, 1:
    some, 2: cannot tell.
    """
    from parity.calibrating import calibration_file, measure
    from parity.calibration import write_calibration
    from parity.causes import HELD_OUT
    from parity.environment import fingerprint
    from parity.session import Request, progress

    found = []
    with progress(Console(stderr=True), {}) as say:
        for variant, spec in Request(batch=batch, pipeline=pipeline).variants(batch).items():
            found.append(measure(spec, variant, say, draws=draws))
    evidence = {"batch": batch, "causes": [cause.name for cause in HELD_OUT], "environment": fingerprint()}
    write_calibration(calibration_file(), found, evidence)
    console = Console()
    for one in found:
        table = Table(title=f"{one.variant}: largest figure over its floor", title_justify="left", box=None)
        for name in ("cause", "compared", "not bitwise", "largest", "above c"):
            table.add_column(name)
        for cause, largest in one.largest.items():
            above = sum(alarm.cause == cause for alarm in one.alarms)
            table.add_row(cause, str(one.comparisons[cause]), str(one.moved[cause]), f"{largest:.2g}", str(above))
        console.print(table)
        beyond = "" if one.beyond is None else f"; {one.beyond:.1%} of fresh draws exceed the floor itself"
        console.print(f"false alarms at c = {one.c:g}: {one.rate:.2%} of what was not bitwise{beyond}", soft_wrap=True)
        for alarm in one.alarms[:12]:
            console.print(f"  {alarm.ratio:.3g} x {alarm.tensor} ({alarm.cause})", soft_wrap=True, highlight=False)
    console.print(f"evidence: {calibration_file().relative_to(ROOT)}", soft_wrap=True)
    raise typer.Exit(1 if any(one.alarms for one in found) else 0)
