"""steps.html, steps.json and the terminal show what was found, and say nothing of their own."""

import json
import math

import pytest
from rich.console import Console

from parity.steps.distance import FIGURES, Distance
from parity.steps.judge import growth, horizon, judge_run, told
from parity.steps.report import as_json, print_steps, render_steps, write_steps
from parity.steps.session import StepsReport

STEPS = 50
STARTS = {"one weight + 1 ULP": 2e-8, "pixels +- 1 ULP, draw 1": 6e-8, "pixels +- 1 ULP, draw 2": 4e-8}


def grown(start, steps=STEPS):
    """A distance that grows 1.8-fold a step up to its plateau."""
    weights = [min(start * 1.8**step, 0.8) for step in range(steps)]
    scaled = {"weights": 1.0, "length": 1e-3, "codes": 0.3, "loss": 0.1}
    figures = {name: [scaled[name] * value for value in weights] for name in FIGURES}
    return Distance(equal=[False] * steps, figures=figures, first_unequal="step 1: vit.pos_embedding")


def report(kind="identical", pipeline="coarse"):
    noise = {name: grown(start) for name, start in STARTS.items()}
    zero = {name: [0.0] * STEPS for name in FIGURES}
    modern = {
        "identical": Distance(equal=[True] * STEPS, figures=zero, first_unequal=""),
        "rounding": grown(5e-8),
        "drift": grown(1e-5),
    }[kind]
    controls = {"lr x 1.0001": grown(1e-4, 5), "beta1 x 1.01": grown(1e-8, 5)}
    found = {name: told(arm, noise) for name, arm in controls.items()}
    distances = {**noise, **controls, "modern": modern}
    kinds = dict.fromkeys(noise, "noise") | dict.fromkeys(controls, "control") | {"modern": "candidate"}
    return StepsReport(
        pipeline=pipeline,
        judgement=judge_run(modern, noise, resolved=any(found.values())),
        horizon=horizon(noise),
        steps=STEPS,
        pixels=56,
        losses={name: [1.0] * STEPS for name in distances},
        distances=distances,
        kinds=kinds,
        growths={name: growth(arm.figures["weights"]) for name, arm in distances.items()},
        controls=found,
        scope={"batch": "synthetic", "seed": 0},
        seconds=400.0,
    )


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("identical", "identical through step 50"),
        ("rounding", "5 x noise through step 5"),
        ("drift", "drifts at step 1"),
    ],
)
def test_page_json_and_terminal_say_the_same(kind, words, tmp_path):
    found = [report(kind)]
    write_steps(found, tmp_path, tmp_path / "copy.json")
    document = json.loads((tmp_path / "steps.json").read_text())
    assert document == json.loads((tmp_path / "copy.json").read_text())
    assert words in document["pipelines"][0]["judgement"]["sentence"]
    assert words in (tmp_path / "steps.html").read_text()
    console = Console(record=True, width=200, file=(tmp_path / "log").open("w"))
    print_steps(found, console)
    text = console.export_text()
    assert words in text
    assert "planted lr x 1.0001: told at step 1" in text
    assert "planted beta1 x 1.01: below resolution" in text


def test_the_page_loads_nothing_and_draws_each_run():
    page = render_steps([report("rounding"), report("identical", "detail")])
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert page.count("<polyline") == 2 * len(FIGURES) * 6


def test_infinite_figures_become_words():
    broken = report("drift")
    broken.distances["modern"].figures["loss"][3] = math.inf
    assert '"inf"' in as_json([broken])
