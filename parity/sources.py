"""Which source files shape a result: a module and all of the project that it imports, found without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

from parity.files import ROOT

PACKAGES = ("fixtures", "modern", "parity")


def closure(modules: Iterable[str]) -> set[Path]:
    """The files of `modules` (dotted names) and of every project module they import, directly or not.

    Imports made by name at run time are not seen: name their targets among `modules`.
    """
    found: set[Path] = set()
    waiting = [path for module in modules for path in _files(module)]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _imported(path)
    return found


def _imported(path: Path) -> tuple[Path, ...]:
    return tuple(file for name in _names(ast.parse(path.read_text())) for file in _files(name))


def _names(tree: ast.AST) -> Iterator[str]:
    """Every dotted name that may be a module; `from a import b` may mean the module a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files(name: str) -> list[Path]:
    """The files that importing `name` runs: its packages' `__init__.py` and, where there is one, its own."""
    parts, found = name.split("."), []
    if parts[0] not in PACKAGES:
        return []
    for depth in range(1, len(parts) + 1):
        place = ROOT.joinpath(*parts[:depth])
        found += [file for file in (place / "__init__.py", place.with_suffix(".py")) if file.is_file()]
    return found
