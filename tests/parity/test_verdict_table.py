"""docs/verdicts.md lists every check with its negative control; the list must be complete and its tests real."""

import ast
import re
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest
import torch

from parity.assemble import _not_covered
from parity.comparison import compare
from parity.observer import KINDS, LEFTOVERS, RETURNED
from parity.rows import _repeat
from parity.schema import Mode
from parity.verdict import Verdict, exit_code

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "verdicts.md").read_text()
TABLE = PAGE.partition("## Every check")[2]
IDS = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TABLE)
ROWS = [line for line in TABLE.partition("### Not exercised")[0].splitlines() if line.startswith("| ")][1:]
CHECKS = [row.split("|")[1].strip() for row in ROWS]


@pytest.mark.parametrize(("file", "test"), dict.fromkeys(IDS), ids="::".join)
def test_each_negative_control_exists_and_is_run(file, test):
    tree = ast.parse((ROOT / file).read_text())
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == test]
    assert len(found) == 1
    marks = " ".join(ast.unparse(mark) for mark in found[0].decorator_list)
    assert "skip" not in marks
    assert "xfail" not in marks


def test_a_made_up_test_would_be_noticed():
    assert ("tests/parity/test_noise.py", "test_exit_codes") in IDS
    tree = ast.parse((ROOT / "tests/parity/test_noise.py").read_text())
    assert "test_that_is_not_there" not in [getattr(node, "name", "") for node in tree.body]


def test_every_check_of_the_audit_is_listed():
    modes = {f"`{mode}`" for mode in get_args(Mode)}
    kinds = {f"observer: {kind}" for kind in (RETURNED, *KINDS, LEFTOVERS)}
    assert not (modes | kinds) - set(CHECKS)
    assert len(set(CHECKS)) == len(CHECKS)


def test_every_word_is_defined():
    assert all(f"| `{word}` |" in PAGE for word in Verdict)


def test_every_row_names_a_control():
    assert ROWS
    assert all("`tests/" in row for row in ROWS)


def test_a_side_that_does_not_repeat_itself_is_unstable():
    a = torch.ones(4)
    b = torch.nextafter(a, torch.full_like(a, 2.0))
    assert _repeat(compare(a, a))[0] is Verdict.IDENTICAL
    assert _repeat(compare(a, b))[0] is Verdict.UNSTABLE
    assert _repeat(compare(a, a.double()))[0] is Verdict.UNSTABLE
    assert exit_code([Verdict.IDENTICAL, Verdict.UNSTABLE]) == 2


def listed(**changes):
    spec = SimpleNamespace(**{"steps": 1, "device": "cpu", "threads": 1, **changes})
    return {part["what"] for part in _not_covered([SimpleNamespace(spec=spec)])}


def test_what_cannot_occur_is_listed():
    everything = listed()
    for change, gone in (
        ({"steps": 5}, "steps after the first"),
        ({"device": "cuda"}, "GPU: atomics, TF32, cuDNN algorithm choice"),
        ({"threads": 2}, "races between CPU threads"),
    ):
        assert gone in everything
        assert gone not in listed(**change)
