"""The table of names is complete: it has what the adapters use, and each name that goes missing is told."""

import ast
import re
import shutil

import pytest

from parity.checkout import COARSE, DETAIL, FORKS
from parity.checkout_check import examine
from parity.files import ROOT
from parity.legacy_names import NEEDED, RENDERER

# The adapters that an audit runs; reproduce, ledger and conform's single modules have needs of their own.
ADAPTERS = {
    COARSE: ("build", "subject", "bare", "taps", "replay"),
    DETAIL: tuple(f"detail_{part}" for part in ("build", "subject", "bare", "taps", "replay", "partial", "updates")),
}
OWNERS = {  # how the adapters call what they hold
    **dict.fromkeys(("trainer", "self._trainer"), "Trainer"),
    **dict.fromkeys(("model", "self._model", "trainer.mymodel", "trainer.deca", "self._trainer.deca"), "DECA"),
    **dict.fromkeys(("render", "model.render", "self._model.render", "trainer.deca.render"), "SRenderY"),
    "util": "util",
    "self._trainer.deca.render": "SRenderY",
}
OF_TORCH = {"train", "eval", "modules", "parameters", "pkl"}
BY_CONFORM_ALONE = {"render_shape", "fixed_uv_dis"}  # the first also in the table of the detail fork


def sources(fork):
    folder = ROOT / "parity"
    return [ast.parse((folder / f"legacy_{part}.py").read_text()) for part in ADAPTERS[fork]]


def in_table(fork):
    """Every name of the table, by the class (or file) it belongs to."""
    found = {}
    for place in NEEDED[fork]:
        module = "util" if place.file.endswith("util.py") else place.file
        for text in (*place.calls, *place.attributes):
            owner, _, name = text.partition("(")[0].rpartition(".")
            found.setdefault(owner or module, set()).add(name)
        found.setdefault(module, set()).update(place.bound)
    return found


def attributes_used(fork):
    for tree in sources(fork):
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and (owner := OWNERS.get(ast.unparse(node.value))):
                yield owner, node.attr
            # functions that take an object and a name
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("patched", "wrapped", "mock.patch.object"):
                owner = OWNERS.get(ast.unparse(node.args[0]))
                if owner and isinstance(node.args[1], ast.Constant):
                    yield owner, node.args[1].value


@pytest.mark.parametrize("fork", FORKS, ids=lambda fork: fork.name)
def test_every_attribute_that_the_adapters_use_is_in_the_table(fork):
    table, used = in_table(fork), set(attributes_used(fork))
    assert len(used) > 15  # the search finds something
    assert not {
        (owner, name)
        for owner, name in used
        if name not in table.get(owner, set()) | OF_TORCH | BY_CONFORM_ALONE and not name.startswith("__")
    }


def test_every_variable_that_the_adapters_read_is_in_the_table():
    text = "".join((ROOT / "parity" / f"legacy_{part}.py").read_text() for part in ADAPTERS[DETAIL])
    table = {name for place in NEEDED[DETAIL] for entry in place.variables for name in entry.split()[1:]}
    assert set(re.findall(r'\bat\["(\w+)"\]', text)) - {"discriminator", "d_losses", "adversarial", "g_losses"} <= table
    assert set(re.findall(r'partial_step\([^\n]*\)\["(\w+)"\]', text)) <= table


def modules_imported(fork):
    calls = [node for tree in sources(fork) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    calls = [call for call in calls if ast.unparse(call.func) in ("import_legacy", "import_legacy_detail")]
    return {call.args[0].value for call in calls if isinstance(call.args[0], ast.Constant)}


@pytest.mark.parametrize("fork", FORKS, ids=lambda fork: fork.name)
def test_every_module_that_the_adapters_import_is_in_the_table(fork):
    files, used = {place.file for place in NEEDED[fork]}, modules_imported(fork) - {"utils.lossfuncN"}  # conform's
    assert used
    assert {f"decalib/{module.replace('.', '/')}.py" for module in used} <= files


def deletions(fork):
    """File and names that go missing together: the file (no names), each class, its members, what is inside those."""
    for place in NEEDED[fork]:
        renderer = "decalib/utils/renderer3.py" if fork is COARSE else "decalib/utils/renderer.py"
        file = renderer if place.file == RENDERER else place.file
        calls = () if place.found_by_object else tuple(text.partition("(")[0] for text in place.calls)
        if not place.found_by_object:
            yield file, ()
        yield from ((file, (name,)) for name in calls if name[0].isupper() and "." not in name)
        members = {name for name in (*calls, *place.attributes) if "." in name or not name[0].isupper()}
        inside = {name for entry in place.variables for name in entry.split()[1:]}
        for names in (members, inside | {*place.bound, *place.keys, *place.settings}):
            if names:
                yield file, tuple(sorted({name.rpartition(".")[2] for name in names}))


@pytest.mark.parametrize("fork", FORKS, ids=lambda fork: fork.name)
def test_each_name_that_goes_missing_is_told_by_file_and_name(fork, tmp_path):
    root = shutil.copytree(ROOT / "legacy" / fork.name, tmp_path / "lab", ignore=shutil.ignore_patterns("__pycache__"))
    count = 0
    for file, names in deletions(fork):
        path = root / file
        before = path.read_text()
        if names:
            path.write_text(re.sub(rf"\b({'|'.join(names)})\b", r"\1_gone", before))
        else:
            path.unlink()
        told = " ".join(lack.what for lack in examine(root, fork).needed if lack.place.startswith(file))
        assert not [name for name in names if not re.search(rf"\b{name}\b", told)], (file, told)
        assert told
        path.write_text(before)
        count += len(names) or 1
    assert count > 40
