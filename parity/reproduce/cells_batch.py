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
    found = _company(base)
    if ":" in base.subject:
        return found
    return found[:2] if base.subject == "legacy" else [*found, *_strict(base), *_two_clips(base)]


def _company(base: Run) -> list[Cell]:
    """The reference first, then a clip in company; legacy refuses it."""
    alone = replace(base, kind="compose", company="alone", operations=True)
    first = Cell(id="alone", title="a clip alone (reference of the next rows)", group=BATCH, runs=(alone,), against="")
    companies = {
        "beside": "beside two others",
        "permuted": "the same three in another order",
        "repeated": "three times itself",
    }
    in_company = [
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
    noise = [
        switched(f"ulp {n} alone", _ULP.format(n), FLOOR, alone, against="alone", operations=False, ulp=n)
        for n in (1, 2)
    ]
    return [first, *in_company, *noise]


def _strict(base: Run) -> list[Cell]:
    """The control: MKL promises the same result for any make-up in this mode."""
    strict = (*base.environment, ("MKL_CBWR", "AVX2,STRICT"))
    alone = replace(base, kind="compose", company="alone", operations=True, environment=strict)
    title = "a clip alone with MKL_CBWR=AVX2,STRICT (reference of the next row)"
    first = Cell(id="alone strict", title=title, group=BATCH, runs=(alone,), against="")
    title = "the clip beside two others with MKL_CBWR=AVX2,STRICT"
    beside = replace(alone, company="beside")
    return [first, Cell(id="beside strict", title=title, group=BATCH, runs=(beside,), against="alone strict")]


def _two_clips(base: Run) -> list[Cell]:
    """One update of two clips: one after the other (the reference), in one batch, under DDP."""
    two = replace(base, kind="accumulate", clips=2)
    titles = {
        "one by one": "two clips one after the other, mean of their losses (reference of the next rows)",
        "in one batch": "the same two clips in one batch; terms that sum over the batch count twice",
        "ddp 1": "the same two clips under DDP, 1 process",
        "ddp 2": "the same two clips under DDP, 2 processes (gloo)",
    }
    runs = {
        "one by one": two,
        "in one batch": replace(two, clips=1),
        "ddp 1": replace(two, kind="distribute", clips=1),
        "ddp 2": replace(two, kind="distribute", clips=2),
    }
    found = [
        Cell(id=id, title=title, group=BATCH, runs=(runs[id],), against="" if id == "one by one" else "one by one")
        for id, title in titles.items()
    ]
    noise = [switched(f"ulp {n} of two", _ULP.format(n), FLOOR, two, against="one by one", ulp=n) for n in (1, 2)]
    return [*found, *noise]
