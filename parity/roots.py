"""The networks of a subject, found without knowing the subject: what names the modules and parameters of a replay."""

from __future__ import annotations

from collections import deque
from typing import Any

from torch import nn

_DEPTH = 4


def roots(subject: Any) -> dict[str, nn.Module]:
    """Modules reachable through attributes and dicts of `subject`, by path; none lies inside another found before it.

    Leading underscores are dropped from names; of equal modules the one nearest to the subject names them.
    """
    found: dict[str, nn.Module] = {}
    known: set[int] = set()
    waiting: deque[tuple[str, Any, int]] = deque([("", subject, 0)])
    while waiting:
        path, thing, depth = waiting.popleft()
        if id(thing) in known:
            continue
        known.add(id(thing))
        if isinstance(thing, nn.Module):
            found[path] = thing
            known |= {id(module) for module in thing.modules()}
        elif depth < _DEPTH:
            waiting += [(".".join(filter(None, (path, name))), part, depth + 1) for name, part in _parts(thing)]
    return found


def _parts(thing: Any) -> list[tuple[str, Any]]:
    """Attributes of plain objects and entries of dicts, where modules may be kept."""
    inside = thing if isinstance(thing, dict) else getattr(thing, "__dict__", {})
    return [
        (str(name).lstrip("_"), part)
        for name, part in inside.items()
        if isinstance(part, (nn.Module, dict)) or hasattr(part, "__dict__")
    ]
