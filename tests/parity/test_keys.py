"""Keys of stored traces and floors: they speak of contents, so that another checkout finds what this one kept."""

import shutil
from dataclasses import replace

import pytest

from parity.audit import committed_floors, floor_key, trace_key
from parity.files import ROOT
from parity.noise import read_floors
from parity.session import FALLBACK, Request, usable_batch
from parity.sources import closure

BATCH = "carphone_0040"


@pytest.fixture
def spec():
    return Request().variants(FALLBACK)["eval"]


def test_a_key_does_not_depend_on_where_the_checkout_lies(spec, tmp_path):
    moved = replace(spec, head=str(shutil.copy(spec.head, tmp_path / "elsewhere.npz")))
    assert floor_key(moved) == floor_key(spec)
    assert trace_key(moved, "legacy") == trace_key(spec, "legacy")


def test_a_key_depends_on_the_settings_and_the_head(spec, tmp_path):
    other = tmp_path / "other.npz"
    other.write_bytes(b"another head")
    changed = [
        replace(spec, dropout=0.2),
        replace(spec, steps=2),
        replace(spec, seed=1),
        replace(spec, head=str(other)),
    ]
    assert len({floor_key(each) for each in [spec, *changed]}) == 1 + len(changed)


def test_committed_floors_are_of_this_tree_and_name_no_folder_of_a_machine():
    if usable_batch(BATCH)[0] != BATCH:
        pytest.skip("the pixels of the bundled clip cannot be had here")
    for variant, spec in Request().variants(BATCH).items():
        path = committed_floors(spec, variant)
        if not path.exists():
            pytest.skip("no noise floors for this platform")
        _, facts = read_floors(path)
        assert facts["key"] == floor_key(spec)
        assert not [value for value in facts["run"].values() if str(value).startswith("/")]


def test_what_a_trace_depends_on_is_found_through_imports_alone():
    found = {path.relative_to(ROOT).as_posix() for path in closure(["parity.modern_detail_subject"])}
    assert {"modern/detail/step.py", "modern/renderer.py", "parity/randomness.py", "fixtures/seeded.py"} <= found
    strangers = ("legacy", "parity/legacy", "parity/report", "parity/conform")
    assert not [name for name in found if name.startswith(strangers)]
    assert closure(["torch.nn"]) == set()
