"""Changes of source: applied exactly, refused when they no longer fit, found where they act."""

import shutil

import pytest

from parity.selftest.bugs_coarse import COARSE_BUGS
from parity.selftest.bugs_detail import DETAIL_BUGS
from parity.selftest.harmless import HARMLESS
from parity.selftest.mutation import Edit, MutationError, Spot, apply, readers, spots
from parity.selftest.planting import MODERN
from parity.selftest.session import Wanted

SOURCE = """LIMIT = 3

def outer(x, y=1):
    def inner(z):
        return z + LIMIT
    return inner(x) * y

class Box:
    side = 2
    def size(self):
        return [self.side * i for i in range(2)]
"""


@pytest.fixture
def root(tmp_path):
    (tmp_path / "a.py").write_text(SOURCE)
    return tmp_path


def where(root, old, new, times=1):
    return spots([Edit("a.py", old, new, times)], root)


def test_an_edit_is_applied_and_the_rest_is_left(root):
    apply([Edit("a.py", "z + LIMIT", "z - LIMIT")], root)
    assert (root / "a.py").read_text() == SOURCE.replace("z + LIMIT", "z - LIMIT")


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (Edit("a.py", "z * LIMIT", ""), "0 times, expected 1"),
        (Edit("a.py", "LIMIT", "LIMITS"), "2 times, expected 1"),
        (Edit("b.py", "x", "y"), "no longer there"),
        (Edit("a.py", "z + LIMIT", "z +"), "no Python"),
    ],
)
def test_what_no_longer_fits_is_an_error(root, edit, words):
    with pytest.raises(MutationError, match=words):
        apply([edit], root)


def test_the_innermost_function_is_the_spot(root):
    assert where(root, "z + LIMIT", "z") == {Spot("a.py", "outer.<locals>.inner")}
    assert where(root, "inner(x) * y", "y") == {Spot("a.py", "outer")}
    assert where(root, "self.side * i", "i") == {Spot("a.py", "Box.size")}


def test_constants_defaults_and_class_bodies_run_on_import(root):
    for old, new in (("LIMIT = 3", "LIMIT = 4"), ("y=1", "y=2"), ("side = 2", "side = 3")):
        assert where(root, old, new) == {Spot("a.py", "")}


def test_context_that_stays_the_same_is_no_change(root):
    old, new = "    return inner(x) * y\n\nclass Box", "    return inner(y) * y\n\nclass Box"
    assert where(root, old, new) == {Spot("a.py", "outer")}


def test_each_place_of_a_repeated_edit_counts(root):
    assert where(root, "LIMIT", "BOUND", 2) == {Spot("a.py", ""), Spot("a.py", "outer.<locals>.inner")}


def test_readers_of_a_constant(root):
    edit = Edit("a.py", "LIMIT = 3", "LIMIT = 4")
    assert readers(root / "a.py", edit) == {"outer", "outer.<locals>.inner"}
    assert readers(root / "a.py", Edit("a.py", "inner(x) * y", "y")) == set()


@pytest.mark.parametrize("item", [*COARSE_BUGS, *DETAIL_BUGS, *HARMLESS], ids=lambda item: item.id)
def test_every_planted_change_fits_todays_source(item, tmp_path):
    for edit in item.edits:
        (tmp_path / edit.file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(MODERN / edit.file, tmp_path / edit.file)
    apply(item.edits, tmp_path)
    spots(item.edits, MODERN)


def test_ids_are_unique_and_every_stage_has_a_bug():
    from parity.pipelines import PIPELINES

    ids = [item.id for item in (*COARSE_BUGS, *DETAIL_BUGS, *HARMLESS)]
    assert len(ids) == len(set(ids))
    for name, bugs in (("coarse", COARSE_BUGS), ("detail", DETAIL_BUGS)):
        visible = {bug.stage for bug in bugs if not bug.below}
        assert set(PIPELINES[name].names) == visible
    assert len(COARSE_BUGS) + len(DETAIL_BUGS) >= 60
    assert sum(not item.sweep for item in HARMLESS) >= 30  # of the default set


def test_the_sweep_is_left_to_full_or_asked_for_by_name() -> None:
    swept = {item.id for item in HARMLESS if item.sweep}
    assert swept
    assert not swept & {item.id for item in Wanted().harmless()}
    assert {item.id for item in Wanted(full=True).harmless()} == {item.id for item in HARMLESS}
    assert [item.id for item in Wanted(only=frozenset(swept)).harmless()] == [i.id for i in HARMLESS if i.sweep]
