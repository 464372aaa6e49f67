"""Size budgets and the import fence, kept by a test instead of by good intentions."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("modern", "parity", "fixtures")
RECORDED = ROOT / "fixtures" / "conformance"  # material kept byte for byte, whatever its style
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if RECORDED not in path.parents)
MAX_FILE, MAX_FUNCTION = 400, 60
NEITHER_SIDE = {
    "comparison",
    "noise",
    "verdict",
    "perturb",
    "structure",
    "matching",
    "ledger",
    "discrepancies",
    "schema",
    "terminal",
    "junit",
}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
    return names


def functions(path: Path) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_and_functions_stay_small(path):
    assert len(path.read_text().splitlines()) <= MAX_FILE
    long = [node.name for node in functions(path) if node.end_lineno - node.lineno + 1 > MAX_FUNCTION]
    assert not long, f"functions over {MAX_FUNCTION} lines: {long}"


def test_public_functions_are_typed():
    untyped = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in FILES
        if not path.name.startswith("test_")
        for node in functions(path)
        if not node.name.startswith("_") and node.returns is None
    ]
    assert not untyped


def test_modern_stands_alone():
    for path in (ROOT / "modern").rglob("*.py"):
        assert not {name.split(".")[0] for name in imported(path)} & {"parity", "legacy", "fixtures", "decalib"}, path


def test_only_the_subject_files_cross_the_fence():
    for path in (ROOT / "parity").rglob("*.py"):
        names = imported(path)
        if not path.name.startswith("legacy_"):
            assert not any(name.split(".")[0] in {"legacy", "decalib"} for name in names), path
        if path.stem in NEITHER_SIDE or "report" in path.parts:
            assert not any(name.startswith(("modern", "parity.legacy_", "parity.modern_")) for name in names), path


def test_legacy_imports_neither_side():
    for path in (ROOT / "legacy").rglob("*.py"):
        assert not {name.split(".")[0] for name in imported(path)} & {"parity", "modern", "fixtures"}, path


def test_the_fence_can_fail(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text("from legacy.AU_sequence import x\nimport parity.verdict\n")
    assert imported(bad) == {"legacy.AU_sequence", "parity.verdict"}


def test_nothing_large_or_pictorial_is_committed():
    import subprocess

    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    sizes = {name: (ROOT / name).stat().st_size for name in tracked.split("\0") if name and (ROOT / name).exists()}
    # 12 MiB: the recorded vectors of the detail stage (four runs of maps and gradients) are one file of 11.5 MB.
    assert not [name for name, size in sizes.items() if size > 12 * 2**20]
    assert not [name for name in sizes if Path(name).suffix in {".jpg", ".jpeg", ".mp4", ".pkl", ".tar"}]
