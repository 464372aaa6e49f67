"""What the code of a checkout imports, followed file by file without running it, and what of that is not there."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Set
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from parity.checkout import NUMPY_ALIASES
from parity.checkout_source import Source, top_level

_NUMPY = frozenset({"np", "numpy"})


@dataclass(frozen=True)
class Lack:
    """Something that importing the checkout would stumble over: where, what, and what to do."""

    place: str
    what: str
    remedy: str


@dataclass(frozen=True)
class _Import:
    """One import of a file: its line, what it means if that lies in the checkout, and the names taken from it."""

    line: int
    module: str
    target: Path | None
    inside: bool
    names: tuple[str, ...]


class Imports:
    """The files that importing `starts` runs, and what they lack.

    Args:
        root: of the checkout.
        starts: files below it, as paths relative to it.
        answered: packages outside the checkout that the audit supplies itself.
    """

    def __init__(self, root: Path, starts: tuple[str, ...], answered: Set[str] = frozenset()) -> None:
        self._root, self._answered = root, answered
        self.sources: dict[str, Source] = {}
        self.lacks: list[Lack] = []
        waiting = [root / start for start in starts if (root / start).is_file()]
        while waiting:
            path = waiting.pop(0)
            name = path.relative_to(root).as_posix()
            if name not in self.sources and (source := self._read(path, name)):
                self.sources[name] = source
                waiting += self._followed(path, name, source)
        self._check_names()

    def outdated(self) -> list[str]:
        """Places that use what NumPy no longer has and the audit puts back."""
        return [
            f"{name}:{node.lineno} (np.{node.attr})"
            for name, source in self.sources.items()
            for node in ast.walk(source.tree)
            if isinstance(node, ast.Attribute) and node.attr in NUMPY_ALIASES and node.attr not in vars(np)
            if isinstance(node.value, ast.Name) and node.value.id in _NUMPY
        ]

    def taken_from(self, file: str, name: str) -> str | None:
        """The file of the checkout that `file` imports `name` from, there or not; None if it does not import it."""
        for item in self._imports(self._root / file, self.sources[file]):
            if name in item.names and item.inside:
                if item.target is not None:
                    return item.target.relative_to(self._root).as_posix()
                return (self._root / file).parent.joinpath(*item.module.strip(".").split(".")).relative_to(
                    self._root
                ).as_posix() + ".py"
        return None

    def _read(self, path: Path, name: str) -> Source | None:
        try:
            return Source(path)
        except SyntaxError as error:
            version = ".".join(map(str, sys.version_info[:2]))
            text = f"Python {version} cannot read the file: {error.msg}"
            self.lacks.append(Lack(f"{name}:{error.lineno}", text, "change that line"))
            return None

    def _followed(self, path: Path, name: str, source: Source) -> list[Path]:
        """Files of the checkout that the imports of a file run; what is not there is noted."""
        found = []
        for item in self._imports(path, source):
            if item.target is None and item.inside:
                text = f"imports {item.module}, which the checkout does not have"
                self.lacks.append(Lack(f"{name}:{item.line}", text, "add the file, or correct the import"))
            elif item.target is None and not self._importable(item.module.split(".")[0]):
                top = item.module.split(".")[0]
                text = f"imports {item.module}, which is not installed here"
                remedy = f"install the package that holds {top} into .venv, or remove the import if nothing uses it"
                self.lacks.append(Lack(f"{name}:{item.line}", text, remedy))
            elif item.target is not None:
                found += _files(item.target, item.names)
        return found

    def _imports(self, path: Path, source: Source) -> Iterator[_Import]:
        """Imports that run with the module and are not guarded by a `try`."""
        guarded = {
            id(part)
            for node in ast.walk(source.tree)
            if isinstance(node, ast.Try) and node.handlers
            for part in ast.walk(node)
        }
        for node in top_level(source.tree):
            if id(node) in guarded:
                continue
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield self._absolute(node.lineno, alias.name, ())
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield self._absolute(node.lineno, node.module or "", _names(node))
            elif isinstance(node, ast.ImportFrom):
                base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
                said = "." * node.level + (node.module or "")
                yield _Import(node.lineno, said, _module(base), True, _names(node))

    def _absolute(self, line: int, module: str, names: tuple[str, ...]) -> _Import:
        parts = module.split(".")
        inside = parts[0] == "decalib" or self._beside_decalib(parts[0])
        target = _module(self._root.joinpath(*parts)) if inside else None
        return _Import(line, module, target, inside, names)

    def _beside_decalib(self, top: str) -> bool:
        """Whether Python would take a module from the checkout; a mere folder loses against an installed package."""
        place = _module(self._root / top)
        if place is None or top in sys.stdlib_module_names:
            return False
        return place.is_file() or not self._importable(top)

    def _importable(self, top: str) -> bool:
        return top in self._answered or top in sys.stdlib_module_names or find_spec(top) is not None

    def _check_names(self) -> None:
        """`from file import name`: the file must have the name."""
        for name, source in list(self.sources.items()):
            path = self._root / name
            for item in self._imports(path, source):
                if missing := self._absent(item):
                    text = f"imports {', '.join(missing)} from {item.module}, which has no such name"
                    self.lacks.append(Lack(f"{name}:{item.line}", text, "add it there, or correct the import"))

    def _absent(self, item: _Import) -> list[str]:
        """The names of an import that its target neither binds nor has as modules below it."""
        if item.target is None:
            return []
        other = self.sources.get(item.target.relative_to(self._root).as_posix())
        if (other is None and item.target.is_file()) or (other is not None and _takes_everything(other)):
            return []  # not read, or its names are not to be had from its text
        names = [name for name in item.names if name != "*" and (other is None or name not in other.bound)]
        folder = _package_folder(item.target)
        return [name for name in names if folder is None or _module(folder / name) is None]


def _names(node: ast.ImportFrom) -> tuple[str, ...]:
    return tuple(alias.name for alias in node.names)


def _takes_everything(source: Source) -> bool:
    """Whether a file has `from ... import *`."""
    return any("*" in _names(node) for node in ast.walk(source.tree) if isinstance(node, ast.ImportFrom))


def _module(base: Path) -> Path | None:
    """The file that a module's path means: its package's `__init__.py`, its own, or a folder without either."""
    for path in (base / "__init__.py", base.with_name(f"{base.name}.py")):
        if path.is_file():
            return path
    return base if base.is_dir() else None


def _package_folder(target: Path) -> Path | None:
    if target.is_dir():
        return target
    return target.parent if target.stem == "__init__" else None


def _files(target: Path, names: tuple[str, ...]) -> list[Path]:
    """The file of a module; of a package also those of the submodules that are taken from it by name."""
    folder = _package_folder(target)
    below = [_module(folder / name) for name in names if name != "*"] if folder else []
    return [path for path in [target, *below] if path is not None and path.is_file()]
