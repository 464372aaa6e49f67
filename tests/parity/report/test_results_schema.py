from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from parity.schema import Results, from_json, read_results, to_json, validate, write_results


def test_results_survive_the_file(small: Results, tmp_path: Path) -> None:
    write_results(small, tmp_path / "results.json")
    assert read_results(tmp_path / "results.json") == small


def test_numbers_that_json_lacks_survive(small: Results, tmp_path: Path) -> None:
    row = replace(small.rows[0], max_abs=math.inf, mean_signed=-math.inf, cosine=math.nan)
    write_results(replace(small, rows=[row, *small.rows[1:]]), tmp_path / "results.json")

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    json.loads((tmp_path / "results.json").read_text(), parse_constant=refuse)
    found = read_results(tmp_path / "results.json").rows[0]
    assert (found.max_abs, found.mean_signed) == (math.inf, -math.inf)
    assert found.cosine is not None
    assert math.isnan(found.cosine)


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        node: Any = document
        for name in parents:
            node = node[int(name)] if name.isdigit() else node[name]
        node[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("schema", 2), "schema is 2, this version reads 3"),
        (_set("extra", 1), "results: unknown field 'extra'"),
        (lambda document: document.pop("answer"), "results: field 'answer' is missing"),
        (_set("exit_code", 3), "exit_code is 3"),
        (_set("exit_code", True), "exit_code: expected int, found bool"),
        (_set("rows.3.verdict", "close"), r"rows\[3\].verdict: 'close' is not one of identical"),
        (_set("rows.3.mode", "free"), r"rows\[3\].mode: 'free' is not one of"),
        (_set("rows.3.rel_l2", "1e-3"), r"rows\[3\].rel_l2: expected float, found str"),
        (_set("rows.3.shape", [1, "2"]), r"rows\[3\].shape\[1\]: expected int"),
        (_set("rows.3.stage", "detail"), "stage 'detail' of 'coarse', which results.stages lacks"),
        (_set("rows.3.histogram", {"edges": [0, 1], "counts": [1, 2], "zeros": 0}), "one more edge than counts"),
        (lambda document: document["rows"].append(document["rows"][0]), "occurs more than once"),
        (_set("first_divergence", "nowhere"), "'nowhere' is not the id of a row"),
        (_set("pictures.0.legacy", "https://example.org/a.png"), "pictures .* must be a data URI"),
        (_set("frames.0.image", "javascript:1"), "frames .* must be a data URI"),
    ],
)
def test_bad_results_are_refused_with_the_place(
    small: Results, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    document = copy.deepcopy(to_json(small))
    change(document)
    with pytest.raises(ValueError, match=message):
        from_json(document)


def test_a_refused_write_leaves_the_old_file(small: Results, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(small, path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="occurs more than once"):
        write_results(replace(small, rows=[*small.rows, small.rows[0]]), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_cut_file_is_named(small: Results, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(small, path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"results\.json: not a complete JSON file"):
        read_results(path)


def test_validate_accepts_what_a_run_may_build(small: Results) -> None:
    validate(small)
    validate(replace(small, rows=[], pictures=[], frames=[], first_divergence=None, known=[], skipped=[], draws={}))
