"""The report in a real browser, opened from disk; skipped visibly where no Chromium is installed."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from parity.held import over_floor
from parity.report import render_report, write_report
from parity.report.format import figure, quantity, times
from parity.schema import Results, to_json
from tests.parity.report.browser import Browser, find_chromium

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="no Chromium or Chrome on this machine")
OPEN = "document.querySelector('tr.row[aria-expanded=true]')"


@pytest.fixture(scope="module")
def path(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(results, path)
    return path


@pytest.fixture(scope="module")
def shared() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.fixture
def browser(shared: Browser) -> Browser:
    shared.trouble.clear()
    shared.requests.clear()
    shared.resize(1400, 1000)
    shared.dark(False)
    return shared


def test_opens_from_disk_without_a_request_or_a_complaint(browser: Browser, path: Path) -> None:
    browser.open(path)
    assert browser.trouble == []
    assert {url.split(":", 1)[0] for url in browser.requests} <= {"file", "about", "data"}
    assert [url for url in browser.requests if url.startswith("file")] == [path.as_uri()]
    assert browser.run("document.querySelector('#shown').textContent") == "2,422 rows"


def test_a_broken_policy_would_be_noticed(browser: Browser, small: Results, tmp_path: Path) -> None:
    page = render_report(small).replace("</main>", '<script>1</script><img src="http://example.invalid/x.png"></main>')
    (tmp_path / "bad.html").write_text(page)
    browser.open(tmp_path / "bad.html")
    assert len(browser.trouble) >= 2


def test_deep_link_opens_its_row(browser: Browser, path: Path, results: Results) -> None:
    row = next(row for row in results.rows if row.id.endswith("adam/exp_avg_sq/vit.mlp_head.weight"))
    browser.open(path, f"#{row.id}")
    assert browser.run(f"{OPEN}.dataset.id") == row.id
    assert browser.run(f"(r => r.top > 0 && r.bottom < innerHeight)({OPEN}.getBoundingClientRect())")
    detail = browser.run(f"{OPEN}.nextElementSibling.innerText")
    assert row.reason in detail
    assert row.repeat in detail
    assert browser.run("document.querySelectorAll('.histogram rect').length") > 3


def test_link_inside_the_page_reveals_a_row(browser: Browser, path: Path, results: Results) -> None:
    browser.open(path, "#?q=s:encoder")
    browser.run("document.querySelector('.divergence a').click()")
    browser.wait(f"{OPEN} !== null")
    assert browser.run(f"{OPEN}.dataset.id") == results.first_divergence


def test_filter_in_the_address(browser: Browser, path: Path, results: Results) -> None:
    browser.open(path, "#?q=v:drift+m:chained+!adam&sort=over")
    expected = [r for r in results.rows if r.verdict == "drift" and r.mode == "chained" and "adam" not in r.id]
    assert browser.run("document.querySelector('#shown').textContent").startswith(f"{len(expected)} of")
    worst = max(expected, key=lambda row: over_floor(row) or 0.0)
    assert browser.run("document.querySelector('tr.row').dataset.id") == worst.id
    browser.run("document.querySelector('[data-word=\"v:drift\"]').click()")
    assert browser.run("location.hash") == "#?q=m:chained+!adam&sort=over".replace("!", "%21")


def test_numbers_read_as_in_the_fixed_parts(browser: Browser, path: Path, results: Results) -> None:
    browser.open(path, "#?q=s:flame")
    rows = {row.id: row for row in results.rows}
    cells = browser.run(
        "[...document.querySelectorAll('tr.row')]"
        ".map(row => [row.dataset.id, ...[5, 7, 8].map(cell => row.cells[cell].textContent)])"
    )
    assert len(cells) == 32
    for name, largest, relative, over in cells:
        row = rows[name]
        assert (largest, relative, over) == (
            quantity(row.max_abs, row.unit),
            figure(row.rel_l2),
            times(over_floor(row)),
        )


def test_keys(browser: Browser, path: Path) -> None:
    browser.open(path, "#?q=s:encoder")
    ids = browser.run("[...document.querySelectorAll('tr.row')].map(r => r.dataset.id)")
    current = "document.querySelector('.row.current').dataset.id"
    for key, expected in (("j", ids[0]), ("j", ids[1]), ("j", ids[2]), ("k", ids[1])):
        browser.press(key)
        assert browser.run(current) == expected
    browser.press("o")
    assert browser.run(f"{OPEN}.dataset.id") == ids[1]
    assert urllib.parse.unquote(browser.run("location.hash")).endswith(ids[1])
    browser.press("o")
    assert browser.run(OPEN) is None
    browser.press("/")
    assert browser.run("document.activeElement.id") == "query"


def test_dark_follows_the_system_and_the_button(browser: Browser, path: Path) -> None:
    paint = "getComputedStyle(document.body).backgroundColor"
    browser.open(path)
    light = browser.run(paint)
    browser.dark(True)
    dark = browser.run(paint)
    assert light != dark
    browser.run("document.querySelector('#theme').click()")
    assert browser.run(paint) == light
    browser.open(path)
    assert browser.run("document.documentElement.dataset.theme") == "light"
    browser.run("document.querySelector('#theme').click(); document.querySelector('#theme').click()")
    assert browser.run(paint) == dark
    browser.run("localStorage.clear()")


def test_download_is_results_json(browser: Browser, path: Path, results: Results) -> None:
    browser.open(path)
    browser.run("document.querySelector('#download').addEventListener('click', (e) => e.preventDefault())")
    browser.run("document.querySelector('#download').click()")
    address = browser.run("document.querySelector('#download').href")
    assert json.loads(urllib.parse.unquote(address.partition(",")[2])) == json.loads(json.dumps(to_json(results)))


def test_pictures_can_be_laid_over_each_other(browser: Browser, path: Path) -> None:
    browser.open(path)
    place = (
        "(s => { const b = document.querySelector(`.picture .${s} img`).getBoundingClientRect(); return [b.x, b.y]; })"
    )
    assert browser.run(f"{place}('legacy')") != browser.run(f"{place}('modern')")
    browser.run("document.querySelector('.views [data-view=slider]').click()")
    assert browser.run(f"{place}('legacy')") == browser.run(f"{place}('modern')")
    browser.run("document.querySelector('.views [data-view=blink]').click()")
    name = "getComputedStyle(document.querySelector('.picture .legacy')).animationName"
    assert browser.run(name) == "blink"
    browser.dark(False, still=True)
    assert browser.run(name) == "none"


@pytest.mark.parametrize("width", [390, 800, 1400])
def test_no_sideways_scrolling(browser: Browser, path: Path, results: Results, width: int) -> None:
    browser.resize(width, 900)
    browser.open(path, f"#{results.first_divergence}")
    assert browser.run("document.documentElement.scrollWidth") == width


def test_hostile_text_does_nothing(browser: Browser, small: Results, tmp_path: Path) -> None:
    hostile = "</template></script><img src=x onerror=document.title='broken'>"
    row = replace(small.rows[0], reason=hostile, repeat=hostile, tensor=hostile)
    write_report(replace(small, rows=[row, *small.rows[1:]], answer=hostile), tmp_path / "r.html")
    browser.open(tmp_path / "r.html", f"#{row.id}")
    assert hostile in browser.run(f"{OPEN}.nextElementSibling.innerText")
    assert browser.trouble == []
    assert "broken" not in browser.run("document.title")


def test_infinite_figures_are_shown(browser: Browser, small: Results, tmp_path: Path) -> None:
    row = replace(small.rows[0], max_abs=float("inf"), rel_l2=float("inf"), cosine=float("nan"))
    write_report(replace(small, rows=[row, *small.rows[1:]]), tmp_path / "r.html")
    browser.open(tmp_path / "r.html", f"#{row.id}")
    assert browser.run(f"{OPEN}.cells[7].textContent") == "\u221e"
    assert browser.trouble == []
