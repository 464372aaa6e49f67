"""The coarse subjects on a small raster: what holds, what does not, and where it begins; in fresh processes."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from parity.reproduce.engine import Engine
from parity.reproduce.judge import Judged
from parity.reproduce.session import Request, reproduce
from parity.reproduce.words import Word

pytestmark = pytest.mark.long


def cells(subject: str, names: str, folder: Path, steps: int = 2) -> dict[str, Judged]:
    request = Request(subject=subject, pipeline="coarse", cells=names, steps=steps, raster=32)
    matrix = reproduce(request, Engine(jobs=2, folder=folder), command="test", console=Console(file=io.StringIO()))
    return {cell.id: cell for cell in matrix.subjects[0].cells}


def test_legacy_reproduces_only_when_seeded_and_the_causes_are_named(tmp_path: Path) -> None:
    found = cells("legacy", "nothing,as shipped 2,initialisation,dropout,order,window,numpy unseeded,beside", tmp_path)
    assert found["nothing"].word is Word.BITWISE
    assert found["numpy unseeded"].word is Word.NOT_EXERCISED  # nothing draws from it
    assert found["as shipped 2"].word is Word.MOVED
    assert found["initialisation"].stage == "initialisation"
    assert found["dropout"].first == "sequence/out@0"
    assert {found["order"].stage, found["window"].stage} == {"data"}
    assert found["beside"].word is Word.REFUSED
    assert "is invalid for input of size" in found["beside"].reason


def test_modern_reproduces_as_it_ships_with_any_workers_and_resumed_anywhere(tmp_path: Path) -> None:
    names = "nothing,as shipped 2,listing,workers 2,workers 4,resume at 1,resume at 2"
    found = cells("modern", f"{names},python unseeded,workers unseeded", tmp_path, steps=3)
    words = dict.fromkeys(names.split(","), Word.BITWISE) | {"workers unseeded": Word.NOT_EXERCISED}
    # something draws from Python's generator (the evidence says so); no result depends on it
    assert found["python unseeded"].word in (Word.BITWISE, Word.NOT_EXERCISED)
    assert {name: found[name].word for name in words} == words


def test_two_processes_give_the_update_of_one_within_the_noise_floor(tmp_path: Path) -> None:
    found = cells("modern", "baseline,ddp 1,ddp 2,in one batch", tmp_path)
    assert found["ddp 1"].word in (Word.BITWISE, Word.NOISE)
    assert found["ddp 2"].word in (Word.BITWISE, Word.NOISE)
    assert found["in one batch"].word is Word.MOVED  # some terms are sums over the batch: a control that must fail


@pytest.mark.long
def test_modern_reproduces_twenty_steps_with_any_workers_and_resumed(tmp_path: Path) -> None:
    names = ["nothing", "workers 2", "workers 4", "resume at 1", "resume at 7", "resume at 13", "resume at 19"]
    found = cells("modern", ",".join(names), tmp_path, steps=20)
    assert {name: found[name].word for name in names} == dict.fromkeys(names, Word.BITWISE)
