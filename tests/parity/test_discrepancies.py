"""Registered discrepancies are strict: exactly as registered they are known; changed, grown or vanished they fail."""

import pytest
import torch

from parity.conform_judge import known_vector
from parity.conform_report import Outcome
from parity.coverage import Rule
from parity.discrepancies import RECORDED, REGISTRY
from parity.pipelines import PIPELINES
from parity.structure import compare_structure
from parity.trace import Trace
from parity.verdict import Verdict

DRAWS = "draws"  # kept beside the structure of a trace


def traces(pipeline, **changed):
    """Both sides with every registered fact as registered, but for `changed`: fact -> (legacy, modern)."""
    sides = []
    for index, name in enumerate(("legacy", "modern")):
        facts = {entry.fact: (entry.legacy, entry.modern)[index] for entry in REGISTRY if entry.pipeline == pipeline}
        facts |= {fact: values[index] for fact, values in changed.items()}
        facts = {fact: value for fact, value in facts.items() if value is not None}
        draws = [{"step": 0, **draw} for draw in facts.pop(DRAWS, [])]
        sides.append(Trace(subject=name, structure=facts, draws=draws))
    return sides


def word(pipeline, fact, **changed):
    found = {part.name: part for part in compare_structure(*traces(pipeline, **changed), pipeline)}
    return found[fact].verdict


def grown(value):
    """The same kind of value, but more of it."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, dict):
        return {**value, "another": 1}
    return [*value, value[0] if value else "another"]


@pytest.mark.parametrize("entry", REGISTRY, ids=lambda entry: f"{entry.pipeline}-{entry.id}-{entry.fact}")
def test_each_entry_is_strict_in_every_direction(entry):
    if entry.fact == DRAWS:
        more = [*entry.legacy, {"op": "dropout", "shape": [1], "p": 0.1, "generator": "torch"}]
    else:
        more = grown(entry.legacy)
    assert word(entry.pipeline, entry.fact) is Verdict.KNOWN
    assert word(entry.pipeline, entry.fact, **{entry.fact: (entry.legacy, entry.legacy)}) is Verdict.DRIFT, "vanished"
    assert word(entry.pipeline, entry.fact, **{entry.fact: (entry.modern, entry.modern)}) is Verdict.DRIFT, "vanished"
    assert word(entry.pipeline, entry.fact, **{entry.fact: (more, entry.modern)}) is Verdict.DRIFT, "grew"
    if entry.fact != DRAWS:
        assert word(entry.pipeline, entry.fact, **{entry.fact: (entry.legacy, grown(entry.modern))}) is Verdict.DRIFT
        assert word(entry.pipeline, entry.fact, **{entry.fact: (None, None)}) is Verdict.DRIFT, "recorded by neither"


def test_each_entry_says_all_that_the_report_shows():
    for entry in REGISTRY:
        assert all([entry.id, entry.stage, entry.fact, entry.reason, entry.since])
        assert entry.legacy != entry.modern
        assert entry.stage in PIPELINES[entry.pipeline].names
    for entry in RECORDED:
        assert all([entry.id, entry.stem, entry.pattern, entry.reason, entry.since])
        assert entry.modern in ("absent", "different") or isinstance(entry.modern, float)


def test_a_fact_has_one_entry_a_pipeline():
    places = [(entry.pipeline, entry.fact) for entry in REGISTRY]
    assert len(set(places)) == len(places)


class Recipe:
    """Yields one value, or does not know the vector."""

    face_ids = None

    def __init__(self, value):
        self._value = value

    def order(self, name):
        return 0

    def compute(self, name):
        if self._value is None:
            raise LookupError(name)
        return self._value


def recorded(entry, value):
    rule = Rule(pattern=".*", metric="abs", bound=1e-6, subjects=("modern",), note="")
    return known_vector("a", rule, {"a": torch.tensor([5.0])}, Recipe(value), entry).outcome


@pytest.mark.parametrize("entry", RECORDED, ids=lambda entry: f"{entry.id}-{entry.pattern}")
def test_each_recorded_entry_is_strict(entry):
    same, other = torch.tensor([5.0]), torch.tensor([6.0])  # as the recording has it, and not
    as_registered, otherwise = {"absent": (None, same), "different": (other, same)}.get(
        entry.modern, (torch.full((1,), float(entry.modern) if isinstance(entry.modern, float) else 0.0), other * 7)
    )
    assert recorded(entry, as_registered) is Outcome.KNOWN
    assert recorded(entry, otherwise) is Outcome.DISAGREES


def test_known_words_reach_the_report():
    from parity.report.render import render_report
    from tests.parity.report.sample import make_results

    results = make_results()
    page = render_report(results)
    assert results.known
    assert all(item.reason.split("'")[0] in page for item in results.known)


def test_an_unregistered_difference_is_drift():
    for fact, values in {"loss_keys": (["a", "b"], ["b", "a"]), "shapes": ({"x": [1]}, {"x": [2]})}.items():
        assert word("coarse", fact, **{fact: (values[0], values[0])}) is Verdict.IDENTICAL
        assert word("coarse", fact, **{fact: values}) is Verdict.DRIFT


def test_a_tensor_of_one_side_only_is_drift():
    legacy, modern = traces("coarse")
    legacy.tensors["losses/all_loss"] = torch.ones(())
    found = {part.name: part.verdict for part in compare_structure(legacy, modern, "coarse")}
    assert found["tensors"] is Verdict.DRIFT


def test_another_draw_is_drift():
    legacy, modern = traces("coarse")
    drop = {"step": 0, "op": "dropout", "shape": [1], "p": 0.1, "generator": "torch"}
    for draws in ([drop, drop], [{**drop, "p": 0.2}], []):
        legacy.draws, modern.draws = [drop], draws
        found = {part.name: part.verdict for part in compare_structure(legacy, modern, "coarse")}
        assert found["draws"] is Verdict.DRIFT
    modern.draws = [drop]
    found = {part.name: part.verdict for part in compare_structure(legacy, modern, "coarse")}
    assert found["draws"] is Verdict.IDENTICAL
