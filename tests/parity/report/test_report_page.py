from __future__ import annotations

import base64
import gzip
import hashlib
import json
import logging
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from parity.held import drift_of, floor_of, over_floor
from parity.report import format, render, render_report, tables, write_report
from parity.report.format import apart
from parity.schema import Results
from parity.verdict import Verdict, judge

HOSTILE = "</script></template><img src=x onerror=alert(1)>\"'&"


class _Page(HTMLParser):
    """Collects links, sources, inline code and the data."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.inline: dict[str, list[str]] = {"script": [], "style": [], "template": []}
        self.attributes: set[str] = set()
        self.policy = ""
        self.ids: list[str] = []
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.attributes |= values.keys()
        self.addresses += [values[name] for name in ("src", "href", "srcset", "action", "data") if name in values]
        self.ids += [values["id"]] if "id" in values else []
        self.policy = values["content"] if values.get("http-equiv") == "Content-Security-Policy" else self.policy
        self._open = tag if tag in self.inline else self._open

    def handle_data(self, data: str) -> None:
        if self._open:
            self.inline[self._open].append(data)

    def handle_endtag(self, tag: str) -> None:
        self._open = "" if tag == self._open else self._open


@pytest.fixture(scope="module")
def text(results: Results) -> str:
    return render_report(results)


@pytest.fixture(scope="module")
def page(text: str) -> _Page:
    return _Page(text)


def test_a_full_run_stays_small(results: Results, text: str) -> None:
    assert len(results.rows) > 2000
    assert len(text.encode()) < render.WARN_BYTES < render.LIMIT_BYTES <= 5_000_000


def test_nothing_points_outside(page: _Page) -> None:
    assert len(page.addresses) > 100
    assert [address for address in page.addresses if not address.startswith(("#", "data:image/"))] == []


def test_policy_admits_exactly_the_inline_code(page: _Page) -> None:
    def digests(blocks: list[str]) -> list[str]:
        return [f"'sha256-{base64.b64encode(hashlib.sha256(b.encode()).digest()).decode()}'" for b in blocks]

    assert len(page.inline["script"]) == 3
    rules = dict(rule.strip().split(" ", 1) for rule in page.policy.split(";"))
    assert rules == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": " ".join(digests(page.inline["style"])),
        "script-src": " ".join(digests(page.inline["script"])),
    }
    assert not {name for name in page.attributes if name.startswith("on") or name == "style"}


def test_ids_are_unique(page: _Page) -> None:
    assert len(page.ids) == len(set(page.ids))


def test_rows_travel_whole_but_pictures_only_once(results: Results, page: _Page, text: str) -> None:
    document = json.loads(gzip.decompress(base64.b64decode("".join(page.inline["template"]))))
    assert [row["id"] for row in document["results"]["rows"]] == [row.id for row in results.rows]
    assert document["results"]["pictures"][1]["modern"] == "#picture-1-modern"
    assert text.count(results.pictures[0].difference) == 1


def test_reading_order(text: str, results: Results) -> None:
    places = [
        text.index(f'id="{name}"')
        for name in (
            "answer",
            "stages",
            "pictures",
            "rows",
            "losses",
            "updates",
            "structure",
            "evidence",
            "skipped",
            "environment",
        )
    ]
    assert places == sorted(places)
    assert results.divergence is not None
    assert (
        text.index("First divergence") < text.index(f'href="#{results.first_divergence}"') < text.index('id="stages"')
    )
    assert text.index("<h1>Synthetic sample: not the same") < text.index("First divergence")


def test_every_verdict_comes_with_its_word(text: str) -> None:
    marks = re.findall(r'<span class="verdict[^>]*><b[^>]*>[^<]+</b>(<span[^>]*>[^<]*</span>)?', text)
    assert marks
    assert all(marks)


def test_same_input_gives_the_same_bytes(results: Results, text: str) -> None:
    assert render_report(results) == text


def test_hostile_text_is_shown_not_run(small: Results) -> None:
    rows = [replace(small.rows[0], reason=HOSTILE, tensor=HOSTILE), *small.rows[1:]]
    text = render_report(replace(small, rows=rows, answer=HOSTILE, environment={HOSTILE: HOSTILE}, command=HOSTILE))
    assert "<img src=x" not in text
    assert len(_Page(text).inline["script"]) == 3


def test_a_run_of_nothing_still_renders(small: Results) -> None:
    empty = replace(
        small,
        rows=[],
        pictures=[],
        frames=[],
        first_divergence=None,
        known=[],
        skipped=[],
        draws={},
        structure=[],
        timings={},
        resources={},
    )
    text = render_report(empty)
    assert "Nothing was skipped." in text
    assert "First divergence" not in text


def test_too_large_is_refused_before_writing(small: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "LIMIT_BYTES", 1000)
    with pytest.raises(ValueError, match="the report would be"):
        write_report(small, tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_large_is_warned_about(
    small: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(render, "WARN_BYTES", 1000)
    with caplog.at_level(logging.WARNING):
        write_report(small, tmp_path / "report.html")
    assert "report.html is" in caplog.text


def test_update_table_covers_every_parameter_worst_first(results: Results) -> None:
    groups = tables.update_groups(results, "chained", "eval")
    assert sum(group.size for group in groups) == 116
    keys = [max(tables.severity(row) for row in group.summary.values()) for group in groups]
    assert keys == sorted(keys, reverse=True)
    assert all(set(found) == set(tables.UPDATE_COLUMNS) for group in groups for found in group.parameters.values())


def test_loss_tables_keep_the_order_of_summation(results: Results) -> None:
    found = {(table.variant, table.step): table for table in tables.loss_tables(results)}
    assert set(found) == {("eval", 0), ("dropout", 0), ("eval", 5), ("dropout", 5)}
    terms = [row.tensor for row in found["eval", 0].terms]
    assert (terms[0], terms[-1]) == ("AUFLoss", "all_loss")
    assert set(found["eval", 0].isolated) == {row.id for row in found["eval", 0].terms}


def test_over_the_floor_of_zero_is_infinite(small: Results) -> None:
    row = replace(small.rows[0], bitwise=False, structural="", dtype="int64", mean_signed=None, differing=3)
    row = replace(row, floor=0.0, floor_max_abs=0.0, floor_differing=0)
    assert over_floor(row) == math.inf
    assert over_floor(replace(row, bitwise=True)) == 0
    assert over_floor(replace(row, floor=None)) is None


def test_the_column_over_the_floor_shows_the_figure_that_decided(small: Results) -> None:
    """A scalar that noise did not move is held to its own rounding: rounding must not stand beside infinity."""
    row = replace(small.rows[0], bitwise=False, structural="", dtype="float32", mean_signed=0.0)
    row = replace(row, rel_l2=6e-8, max_abs=1e-7, scaled_ulp=1.0, floor=0.0, floor_max_abs=0.0, floor_differing=0)
    found = over_floor(row)
    verdict, reason = judge(drift_of(row), floor_of(row))
    assert verdict is Verdict.ROUNDING
    assert reason == f"{found:.2g} x noise floor"
    unpacked = json.loads(gzip.decompress(base64.b64decode(render.payload(replace(small, rows=[row])))))
    assert unpacked["decided"][0][0] == found


def test_values_that_differ_are_shown_to_differ() -> None:
    assert apart(-0.035133381, -0.035133384) == ("-0.035133381", "-0.035133384")
    assert len({*apart(1.0, 1.0 + 2.0**-52)}) == 2
    assert apart(0.5, 0.25) == ("0.5", "0.25")
    assert apart(1.0, 1.0) == ("1", "1")
    assert apart(None, 1.0)[1] == "1"


@pytest.mark.parametrize(
    ("number", "unit", "shown"),
    [
        (0.0, "m", "0 m"),
        (3.14e-7, "m", "314 nm"),
        (2.5e-3, "m", "2.5 mm"),
        (-4e-6, "m", "-4 \u00b5m"),
        (3.14e-7, "", "3.1e-07"),
        (None, "", format.NONE),
        (math.inf, "m", "\u221e m"),
        (1e-15, "m", "0.001 pm"),
    ],
)
def test_quantities(number: float | None, unit: str, shown: str) -> None:
    assert format.quantity(number, unit) == shown


def test_tones_follow_the_exit_code() -> None:
    tones = {verdict: format.tone(verdict) for verdict in Verdict}
    assert {verdict for verdict, tone in tones.items() if tone == "differs"} == {Verdict.DRIFT}
    assert tones[Verdict.KNOWN] == "same"
    assert tones[Verdict.NOT_EXERCISED] == tones[Verdict.UNSTABLE] == "unclear"
    assert len(set(format.SYMBOLS.values())) == len(Verdict)


def test_what_each_side_took_is_shown(text: str) -> None:
    assert "21 s, peak 2.6 GB" in text


def test_a_page_that_lies_beside_is_linked(small: Results, tmp_path: Path) -> None:
    write_report(small, tmp_path / "report.html")
    assert 'href="selftest.html"' not in (tmp_path / "report.html").read_text()
    (tmp_path / "selftest.html").write_text("")
    write_report(small, tmp_path / "report.html")
    assert 'href="selftest.html"' in (tmp_path / "report.html").read_text()
