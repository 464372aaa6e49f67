"""What one file of a checkout defines, read from its text: nothing of it is imported or run."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef
_DEFINED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_REGISTERING = ("register_buffer", "register_parameter", "add_module", "register_module")


@dataclass(frozen=True)
class Given:
    """The arguments of a call: so many by position, with their specified names, and the rest by keyword."""

    name: str
    positions: tuple[str, ...]
    keywords: tuple[str, ...]

    @classmethod
    def read(cls, text: str) -> Given:
        """From `name(position, keyword=)`."""
        name, _, inside = text.rstrip(")").partition("(")
        arguments = [part.strip() for part in inside.split(",") if part.strip()]
        keywords = tuple(part.removesuffix("=") for part in arguments if part.endswith("="))
        return cls(name, tuple(part for part in arguments if not part.endswith("=")), keywords)


class Source:
    """One file; every answer is about names, as Python binds them when the file is imported or a method runs."""

    def __init__(self, path: Path) -> None:
        """Raises SyntaxError if this Python cannot read the file."""
        self.tree = ast.parse(path.read_bytes(), filename=str(path))

    @cached_property
    def bound(self) -> set[str]:
        """Names of the module, also those that a function declares global and binds."""
        return set(_bound(top_level(self.tree))) | {
            name
            for function in ast.walk(self.tree)
            if isinstance(function, Function)
            for name in _declared_global(function) & set(_bound(ast.walk(function)))
        }

    @cached_property
    def classes(self) -> dict[str, ast.ClassDef]:
        """Classes of the module."""
        return {node.name: node for node in top_level(self.tree) if isinstance(node, ast.ClassDef)}

    @cached_property
    def words(self) -> set[str]:
        """Strings in the code, and names that arguments are given by: keys of the dictionaries it fills or reads."""
        return {str(node.value) for node in ast.walk(self.tree) if isinstance(node, ast.Constant)} | {
            node.arg for node in ast.walk(self.tree) if isinstance(node, ast.keyword) and node.arg
        }

    @cached_property
    def settings(self) -> set[str]:
        """Dotted keys that the module sets on a configuration, without the configuration's own name."""
        chains = (_dotted(node) for node in ast.walk(self.tree) if isinstance(node, ast.Attribute) and _stored(node))
        return {chain.partition(".")[2] for chain in chains if chain}

    def function(self, name: str) -> Function | None:
        """A function, a method as `Class.method`, or the constructor of a class; inherited ones within the file too."""
        owner, _, method = name.rpartition(".")
        if owner:
            return self._method(owner, method)
        if name in self.classes:
            return self._method(name, "__init__")
        return next((node for node in top_level(self.tree) if isinstance(node, Function) and node.name == name), None)

    def attributes(self, owner: str) -> set[str]:
        """Names that instances of a class have: methods, class variables, what methods assign to self or register."""
        found: set[str] = set()
        for node in self._lineage(owner):
            found |= set(_bound(top_level(node)))
            for part in ast.walk(node):
                if isinstance(part, ast.Attribute) and _stored(part) and _dotted(part) == f"self.{part.attr}":
                    found.add(part.attr)
                elif isinstance(part, ast.Call):
                    found |= _registered(part)
        return found

    def variables(self, method: str) -> set[str]:
        """Names that a method binds, its arguments included."""
        node = self.function(method)
        if node is None:
            return set()
        return set(_bound(ast.walk(node))) | {
            argument.arg for argument in ast.walk(node) if isinstance(argument, ast.arg)
        }

    def _method(self, owner: str, name: str) -> Function | None:
        for node in self._lineage(owner):
            for part in top_level(node):
                if isinstance(part, Function) and part.name == name:
                    return part
        return None

    def _lineage(self, owner: str) -> Iterator[ast.ClassDef]:
        """The class, and those of its bases that the file defines."""
        if owner in self.classes:
            yield self.classes[owner]
            for base in self.classes[owner].bases:
                if isinstance(base, ast.Name) and base.id != owner:
                    yield from self._lineage(base.id)


def misfit(function: Function, given: Given, *, bound_to_self: bool) -> str:
    """Why a call with these arguments fails; empty if it does not."""
    positional, named = _parameters(function, bound_to_self)
    spare = function.args.vararg is not None
    if len(given.positions) > len(positional) and not spare:
        return f"takes {len(positional)} arguments by position, is given {len(given.positions)}"
    rest = [*positional[len(given.positions) :], *named]
    if function.args.kwarg is None and (unknown := [name for name in given.keywords if name not in rest]):
        return f"has no argument {', '.join(unknown)}"
    wanting = [name for name in rest if name not in given.keywords and name not in _defaults(function)]
    return f"also wants {', '.join(wanting)}" if wanting else ""


def parameter_names(function: Function, *, bound_to_self: bool) -> list[str]:
    """Names of the parameters in order."""
    positional, named = _parameters(function, bound_to_self)
    return positional + named


def signature(function: Function) -> str:
    """The parameters as the file has them."""
    return f"({ast.unparse(function.args)})"


def top_level(node: ast.Module | ast.ClassDef) -> Iterator[ast.stmt]:
    """Statements that run with the body, also inside `if`, `try` and `with`; not those of functions and classes."""
    waiting: list[ast.AST] = list(node.body)
    while waiting:
        statement = waiting.pop(0)
        if isinstance(statement, ast.stmt):
            yield statement
            if not isinstance(statement, _DEFINED):
                inside = (ast.stmt, ast.ExceptHandler)
                waiting[:0] = [part for part in ast.iter_child_nodes(statement) if isinstance(part, inside)]
        elif isinstance(statement, ast.ExceptHandler):
            waiting[:0] = statement.body


def _bound(nodes: Iterator[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, _DEFINED):
            yield node.name
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from ((alias.asname or alias.name).split(".")[0] for alias in node.names)
        elif isinstance(node, ast.stmt):
            yield from (part.id for part in _shallow(node) if isinstance(part, ast.Name) and _stored(part))
        elif isinstance(node, ast.Name) and _stored(node):
            yield node.id


def _shallow(statement: ast.stmt) -> Iterator[ast.AST]:
    """The expressions of a statement, without the statements inside it."""
    waiting: list[ast.AST] = [statement]
    while waiting:
        for part in ast.iter_child_nodes(waiting.pop()):
            if not isinstance(part, (ast.stmt, ast.ExceptHandler)):
                yield part
                waiting.append(part)


def _stored(node: ast.Name | ast.Attribute) -> bool:
    return isinstance(node.ctx, ast.Store)


def _dotted(node: ast.expr) -> str:
    """`a.b.c` of a chain of attributes; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := _dotted(node.value)):
        return f"{before}.{node.attr}"
    return ""


def _declared_global(function: Function) -> set[str]:
    return {name for node in ast.walk(function) if isinstance(node, ast.Global) for name in node.names}


def _registered(call: ast.Call) -> set[str]:
    """What `self.register_buffer("name", ...)` or `setattr(self, "name", ...)` makes an attribute."""
    index = 0 if isinstance(call.func, ast.Attribute) and call.func.attr in _REGISTERING else None
    if isinstance(call.func, ast.Name) and call.func.id == "setattr":
        index = 1
    if index is None or len(call.args) <= index:
        return set()
    named = call.args[index]
    return {named.value} if isinstance(named, ast.Constant) and isinstance(named.value, str) else set()


def _parameters(function: Function, bound_to_self: bool) -> tuple[list[str], list[str]]:
    """Names given by position or keyword, and by keyword only."""
    positional = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    static = any(isinstance(part, ast.Name) and part.id == "staticmethod" for part in function.decorator_list)
    return positional[bound_to_self and not static :], [argument.arg for argument in function.args.kwonlyargs]


def _defaults(function: Function) -> set[str]:
    positional: Sequence[ast.arg] = (*function.args.posonlyargs, *function.args.args)
    count = len(function.args.defaults)
    named = zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    return {argument.arg for argument in positional[len(positional) - count :]} | {
        argument.arg for argument, default in named if default is not None
    }
