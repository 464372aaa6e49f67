"""Cells of the batch: a clip's company, and an update in parts."""

from __future__ import annotations

from dataclasses import replace

from parity.reproduce.cell import BATCH, FLOOR, Cell, switched
from parity.reproduce.run import Run

_ULP = "pixels and weights moved by one ULP, draw {}"


def batch(base: Run) -> list[Cell]:
    """A clip alone and in company; two clips in one update, in parts and over processes."""
    if base.pipeline == "detail":
        why = (
            "a picture's result depends on its company by construction: action-unit networks normalise with the "
            "statistics of the batch (D39), and z_sym is a sum over it (D43)"
        )
        return [Cell(id="company", title="a picture alone and in company", group=BATCH, why_not=why)]
    alone = replace(base, kind="compose", company="alone", operations=True)
    first = Cell(id="alone", title="a clip alone (reference of the next rows)", group=BATCH, runs=(alone,), against="")
    companies = {
        "beside": "beside two others",
        "permuted": "the same three in another order",
        "repeated": "three times itself",
    }
    found = [
        replace(
            first,
            id=name,
            title=f"the clip {text}",
            runs=(replace(alone, company=name),),
            against="alone",
            cause="make-up of the batch",
            control="MKL_CBWR=AVX2,STRICT or a fixed make-up",
            refusal=base.subject == "legacy",
        )
        for name, text in companies.items()
    ]
    if base.subject == "legacy":
        return [first, *found[:1]]
    strict = (*base.environment, ("MKL_CBWR", "AVX2,STRICT"))
    cbwr = [replace(alone, company=name, environment=strict) for name in ("alone", "beside")]
    two = replace(base, kind="accumulate", clips=1)
    return [
        first,
        *found,
        *(
            switched(f"ulp {n} alone", _ULP.format(n), FLOOR, alone, against="alone", operations=False, ulp=n)
            for n in (1, 2)
        ),
        *(
            switched(f"ulp {n} of two", _ULP.format(n), FLOOR, two, against="one by one", clips=2, ulp=n)
            for n in (1, 2)
        ),
        replace(
            first,
            id="alone strict",
            title="a clip alone with MKL_CBWR=AVX2,STRICT (reference of the next row)",
            runs=(cbwr[0],),
        ),
        replace(
            first,
            id="beside strict",
            title="the clip beside two others with MKL_CBWR=AVX2,STRICT",
            runs=(cbwr[1],),
            against="alone strict",
        ),
        Cell(
            id="one by one",
            title="two clips one after the other, mean of their losses (reference of the next rows)",
            group=BATCH,
            runs=(replace(two, clips=2),),
            against="",
        ),
        Cell(
            id="in one batch",
            title="the same two clips in one batch; terms that sum over the batch count twice",
            group=BATCH,
            runs=(two,),
            against="one by one",
        ),
        Cell(
            id="ddp 1",
            title="the same two clips under DDP, 1 process",
            group=BATCH,
            runs=(replace(two, kind="distribute", clips=1),),
            against="one by one",
        ),
        Cell(
            id="ddp 2",
            title="the same two clips under DDP, 2 processes (gloo)",
            group=BATCH,
            runs=(replace(two, kind="distribute", clips=2),),
            against="one by one",
        ),
    ]
