"""What an optimizer is about to do, read from itself while a replay makes one update: settings, groups, step counts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from torch import Tensor
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from parity.files import write_atomically
from parity.fingerprint import fingerprint
from parity.ops import places

SETTINGS = ("lr", "betas", "eps", "weight_decay", "amsgrad", "maximize", "momentum", "nesterov")
UNNAMED = "?"


@dataclass(frozen=True, kw_only=True)
class Group:
    """One parameter group: its settings, and what it updates, in order, by the names of the replay's inputs."""

    settings: Mapping[str, Any]
    keys: tuple[str, ...]


@dataclass(kw_only=True)
class Update:
    """One update. kind: class of the optimizer. made: (file:line, function) of where it was built, "" if not seen.

    steps: step count of each parameter after the update. idle: parameters without a gradient, which it leaves alone.
    """

    kind: str
    made: tuple[str, str]
    groups: tuple[Group, ...]
    idle: int
    steps: dict[str, float] = field(default_factory=dict)


@contextmanager
def watched_update(inputs: Mapping[str, Tensor]) -> Iterator[list[Update]]:
    """Collect the updates made inside; `inputs` are those of an update stage and give the parameters their names.

    A parameter is recognised by its value and gradient, so that no subject has to tell how it calls it.
    """
    found: list[Update] = []
    built: dict[int, tuple[str, str]] = {}
    names: dict[int, str] = {}
    original = Optimizer.__init__

    def init(self: Optimizer, *args: Any, **kwargs: Any) -> None:
        place = places(sys._getframe(1))
        built[id(self)] = (place[1], place[2]) if place else ("", "")
        original(self, *args, **kwargs)

    def before(optimizer: Optimizer, _: Any, __: Any) -> None:
        waiting = _by_content(inputs)
        groups, idle = [], 0
        for group in optimizer.param_groups:
            active = [parameter for parameter in group["params"] if parameter.grad is not None]
            idle += len(group["params"]) - len(active)
            for parameter in active:
                known = waiting.get(_content(parameter, parameter.grad))
                names[id(parameter)] = known.pop(0) if known else UNNAMED
            settings = {name: group[name] for name in SETTINGS if name in group}
            groups.append(Group(settings=settings, keys=tuple(names[id(parameter)] for parameter in active)))
        made = built.get(id(optimizer), ("", ""))
        found.append(Update(kind=type(optimizer).__name__, made=made, groups=tuple(groups), idle=idle))

    def after(optimizer: Optimizer, _: Any, __: Any) -> None:
        for parameter, state in optimizer.state.items():
            if id(parameter) in names and "step" in state:
                found[-1].steps[names[id(parameter)]] = float(state["step"])

    handles = register_optimizer_step_pre_hook(before), register_optimizer_step_post_hook(after)
    try:
        with mock.patch.object(Optimizer, "__init__", init):
            yield found
    finally:
        for handle in handles:
            handle.remove()


def _by_content(inputs: Mapping[str, Tensor]) -> dict[Any, list[str]]:
    """Value and gradient -> the names that have them, in the order of the inputs."""
    found: dict[Any, list[str]] = {}
    for name, value in inputs.items():
        family, _, key = name.partition("/")
        if family == "parameter":
            found.setdefault(_content(value, inputs[f"gradient/{key}"]), []).append(key)
    return found


def _content(value: Tensor, gradient: Tensor) -> Any:
    """Equal for equal bytes."""
    return fingerprint(value), fingerprint(gradient)


def write_update(path: Path, update: Update) -> None:
    """Store an update's facts as JSON, atomically."""
    write_atomically(path, json.dumps(asdict(update)).encode())


def read_update(path: Path) -> Update:
    """Read what `write_update` wrote.

    Raises:
        FileNotFoundError: nothing there.
    """
    stored = json.loads(path.read_text())
    groups = tuple(
        Group(settings={name: _hashable(value) for name, value in group["settings"].items()}, keys=tuple(group["keys"]))
        for group in stored["groups"]
    )
    return Update(
        kind=stored["kind"], made=tuple(stored["made"]), groups=groups, idle=stored["idle"], steps=stored["steps"]
    )


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
