"""Terminal table, JUnit and pictures."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as Xml

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from parity.junit import write_junit
from parity.report.pictures import SIDE, difference_image, frame, height_picture, picture
from parity.schema import PNG, Results
from parity.terminal import print_results
from parity.verdict import Verdict


def _printed(results: Results, **options: object) -> str:
    stream = io.StringIO()
    print_results(results, Console(file=stream, width=140, **options))  # type: ignore[arg-type]
    return stream.getvalue()


def test_terminal_names_stages_divergence_and_answer(small: Results) -> None:
    text = _printed(small)
    lines = {line.split(" ", 1)[0]: line for line in text.splitlines() if line}
    assert all(stage.name in lines for stage in small.stages)
    assert "drift" in lines["texture"]
    assert "isolated: albedo" in lines["texture"]
    assert "not run" in lines["prediction"]
    assert small.first_divergence in text
    assert "exit code 1: not the same" in text
    assert "\x1b" not in text


def test_terminal_has_colour_only_where_wanted(small: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = _printed(small, force_terminal=True, color_system="256")
    monkeypatch.setenv("NO_COLOR", "1")
    plain = _printed(small, force_terminal=True, color_system="256")
    assert "\x1b[1;38;5;208m" in coloured
    assert "\x1b[1;38;5;208m" not in plain


def test_terminal_without_utf8(small: Results) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    print_results(small, Console(file=stream, width=140))
    stream.flush()
    text = stream.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]
    assert "# drift" in text
    assert "?" not in text


@pytest.mark.parametrize(
    ("verdict", "outcome"),
    [
        (Verdict.IDENTICAL, "system-out"),
        (Verdict.ROUNDING, "system-out"),
        (Verdict.KNOWN, "system-out"),
        (Verdict.DRIFT, "failure"),
        (Verdict.MISSING, "error"),
        (Verdict.ERROR, "error"),
        (Verdict.UNSTABLE, "skipped"),
        (Verdict.NOT_EXERCISED, "skipped"),
    ],
)
def test_junit_outcome_of_each_word(small: Results, tmp_path: Path, verdict: Verdict, outcome: str) -> None:
    row = replace(small.rows[0], verdict=verdict, reason="a \x00 & <reason>")
    known = replace(small.known[0], verdict=verdict)
    write_junit(replace(small, rows=[row], known=[known], structure=[], first_divergence=None), tmp_path / "junit.xml")
    suite = Xml.parse(tmp_path / "junit.xml").getroot()[0]
    assert [case.get("name") for case in suite] == [row.id, f"known/{known.id}"]
    for case in suite:
        assert case[0].tag == outcome
        assert (case[0].get("message") or case[0].text or "").startswith(f"{verdict}: ")
    assert "a ? & <reason>" in (suite[0][0].text or "")


def test_junit_counts(small: Results, tmp_path: Path) -> None:
    write_junit(small, tmp_path / "junit.xml")
    suite = Xml.parse(tmp_path / "junit.xml").getroot()[0]
    drift = sum(row.verdict is Verdict.DRIFT for row in small.rows)
    assert drift > 0
    assert suite.get("failures") == str(drift)
    assert suite.get("tests") == str(len(small.rows) + len(small.structure) + len(small.known))


def _pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix(PNG)))))


def test_picture_keeps_both_sides_and_signs_the_difference() -> None:
    legacy = np.full((3, 4, 4), 0.5)
    modern = legacy.copy()
    modern[1, 0, 0], modern[2, 3, 3] = 0.75, 0.25
    made = picture("t", "c", legacy, modern)
    assert (_pixels(made.legacy) == 128).all()
    assert _pixels(made.modern)[0, 0].tolist() == [128, 191, 128]
    difference = _pixels(made.difference).astype(int)
    assert difference[0, 0, 0] > 200 > difference[0, 0, 2]  # brighter: orange
    assert difference[3, 3, 2] > 100 > difference[3, 3, 0]  # darker: blue
    assert (difference[1, 1] == difference[2, 2]).all()
    assert "full colour = 2.5e-01" in made.scale
    assert "2 of 16 pixels differ" in made.scale


def test_equal_pictures_say_so() -> None:
    image, scale = difference_image(np.zeros((3, 2, 2)), np.zeros((3, 2, 2)))
    assert scale == "no pixel differs"
    assert len(np.unique(image.reshape(-1, 3), axis=0)) == 1


def test_large_images_are_made_small() -> None:
    assert max(_pixels(frame("f", np.random.default_rng(0).random((3, 700, 500))).image).shape) <= SIDE


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="drop the batch axis"):
        frame("f", np.zeros((1, 3, 4, 4)))
    with pytest.raises(ValueError, match="must be equal"):
        picture("t", "c", np.zeros((3, 4, 4)), np.zeros((3, 5, 4)))


def test_height_maps_share_one_scale_and_say_it_in_both_units():
    legacy = np.linspace(-0.004, 0.008, 64).reshape(8, 8)
    made = height_picture("uv_z", "c", legacy, legacy + np.eye(8) * 1e-6)
    assert made.legend[0].startswith("-8")
    assert "mm" in made.legend[2]
    assert "model units" in made.legend[2]
    assert "8 of 64 texels" in made.scale
    assert "0.001 mm" in made.scale


def test_equal_height_maps_say_so_and_zero_is_neutral():
    made = height_picture("uv_z", "c", np.zeros((4, 4)), np.zeros((4, 4)))
    assert made.scale == "no texel differs"
    assert made.legacy == made.modern == made.difference


def test_height_maps_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="both must be"):
        height_picture("uv_z", "c", np.zeros((1, 4, 4)), np.zeros((1, 4, 4)))
