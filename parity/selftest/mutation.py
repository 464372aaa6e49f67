"""Changes of modern's source that are planted on purpose: each replaces text that must occur exactly so often."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


class MutationError(ValueError):
    """A change that no longer fits the source; the message says which text is missing where."""


@dataclass(frozen=True)
class Edit:
    """`old` becomes `new` in `file` (relative to modern/), at each of the `times` places where it stands."""

    file: str
    old: str
    new: str
    times: int = 1


@dataclass(frozen=True, order=True)
class Spot:
    """A function by its file relative to modern/ and its qualified name; "" for what runs on import."""

    file: str
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.function or '<module>'}"


def apply(edits: Iterable[Edit], root: Path) -> None:
    """Change the copy of modern at `root`.

    Raises:
        MutationError: a text does not stand there exactly `times` times, or the result is no Python.
    """
    for edit in edits:
        path = root / edit.file
        text = _read(path, edit)
        changed = text.replace(edit.old, edit.new)
        try:
            ast.parse(changed)
        except SyntaxError as error:
            raise MutationError(f"{edit.file}: {edit.new!r} makes it no Python: {error}") from error
        path.write_text(changed)


def spots(edits: Iterable[Edit], root: Path) -> set[Spot]:
    """The functions whose bodies the edits change, found in the unchanged source at `root`.

    What runs on import (constants, signatures, class bodies) is the spot without a function name.
    """
    found = set()
    for edit in edits:
        text = _read(root / edit.file, edit)
        tree, start = ast.parse(text), text.find(edit.old)
        while start >= 0:
            first, last = (text.count("\n", 0, place) + 1 for place in _changed_part(edit, start))
            found.add(Spot(edit.file, _enclosing(tree, first, last)))
            start = text.find(edit.old, start + len(edit.old))
    return found


def readers(spot_file: Path, edit: Edit) -> set[str]:
    """Functions of a file that read a constant which the edit changes on import; empty if it changes none."""
    text = spot_file.read_text()
    tree = ast.parse(text)
    first, last = (text.count("\n", 0, place) + 1 for place in _changed_part(edit, text.find(edit.old)))
    names = {
        target.id
        for node in tree.body
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.lineno <= last and first <= (node.end_lineno or 0)
        for target in ast.walk(node)
        if isinstance(target, ast.Name) and isinstance(target.ctx, ast.Store)
    }
    return {
        name
        for name, node in _functions(tree)
        if any(isinstance(part, ast.Name) and part.id in names for part in ast.walk(node))
    }


def _changed_part(edit: Edit, start: int) -> tuple[int, int]:
    """Where the replaced text begins and ends, without the context that it shares with its replacement."""
    shortest = min(len(edit.old), len(edit.new))
    head = next((i for i in range(shortest) if edit.old[i] != edit.new[i]), shortest)
    room = shortest - head
    tail = next((i for i in range(room) if edit.old[-1 - i] != edit.new[-1 - i]), room)
    # A pure insertion touches the place where it goes in.
    return start + min(head, len(edit.old) - 1), start + max(len(edit.old) - tail - 1, min(head, len(edit.old) - 1))


def _read(path: Path, edit: Edit) -> str:
    if not path.is_file():
        raise MutationError(f"modern/{edit.file} is no longer there; move the change to where its code went")
    text = path.read_text()
    if text.count(edit.old) != edit.times:
        count = text.count(edit.old)
        raise MutationError(
            f"modern/{edit.file} holds {edit.old!r} {count} times, expected {edit.times}; adapt it to today's source"
        )
    return text


def _enclosing(tree: ast.Module, first: int, last: int) -> str:
    """Qualified name of the innermost function whose body holds both lines."""
    found = ""
    for name, node in _functions(tree):
        if node.body[0].lineno <= first and last <= (node.end_lineno or 0):
            found = name
    return found


def _functions(tree: ast.Module) -> list[tuple[str, ast.FunctionDef]]:
    """All functions with the names the interpreter gives them, outer ones before those inside."""
    found: list[tuple[str, ast.FunctionDef]] = []

    def walk(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef):
                found.append((prefix + child.name, child))
                walk(child, f"{prefix}{child.name}.<locals>.")
            elif isinstance(child, ast.ClassDef):
                walk(child, f"{prefix}{child.name}.")
            else:
                walk(child, prefix)

    walk(tree, "")
    return found
