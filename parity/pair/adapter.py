"""A user's pair: one short Python file that says how to build both sides (docs/your_own_pair.md)."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from parity.pair.audit import PairAudit, audit_sides, match_by_use
from parity.pair.generators import generators_kept
from parity.pair.lockstep import SIDES
from parity.pair.names import UNUSED, WeightMap, tensors_of
from parity.pair.side import Side, named_tensors, state_kept
from parity.pair.taps import Stages

_REQUIRED = {"reference": "()", "candidate": "()", "inputs": "(seed)"}
_OPTIONAL = {"loss": "(outputs, inputs)", "optimizer": "(model)", "candidate_inputs": "(inputs)"}
_TABLES = ("NAMES", "WEIGHTS", "STAGES")
_ARGUMENTS = re.compile(r"unexpected keyword argument|missing \d+ required|takes .* positional argument")
ORIGINS = ("reference", "own")


@dataclass(frozen=True)
class Adapter:
    """What the file defines; names as in docs/your_own_pair.md."""

    path: Path
    reference: Callable[[], nn.Module]
    candidate: Callable[[], nn.Module]
    inputs: Callable[[int], Any]
    loss: Callable[[Any, Any], Tensor] | None
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] | None
    candidate_inputs: Callable[[Any], Any] | None
    names: Mapping[str, str]
    weights: Mapping[str, Any]
    stages: Mapping[str, Any] | None
    weights_from: str

    @property
    def name(self) -> str:
        """The file's name without suffix, or its folder's if it is just "adapter"."""
        return self.path.resolve().parent.name if self.path.stem == "adapter" else self.path.stem

    def sides(self, seed: int, device: str = "cpu") -> tuple[Side, Side]:
        """Both models in training mode, as their functions leave them, with inputs of their own.

        Raises:
            ValueError: a function returned something of the wrong kind.
        """
        found = []
        given = self.inputs(seed)
        for what in ("reference", "candidate"):
            torch.manual_seed(seed)
            with _importable(self.path.resolve().parent):
                model = getattr(self, what)()
            if not isinstance(model, nn.Module):
                raise ValueError(f"{self.path}: {what}() returned {type(model).__name__}, not a torch.nn.Module")
            model.to(device)
            own = self.candidate_inputs(given) if what == "candidate" and self.candidate_inputs else given
            if not named_tensors(own):
                raise ValueError(f"{self.path}: inputs(seed) returned {type(own).__name__} without any tensor in it")
            side = Side(model, own, self.loss)
            side.inputs = torch.utils._pytree.tree_map_only(Tensor, lambda t: t.to(device), side.copied_inputs())
            found.append(side)
        return found[0], found[1]


def load_adapter(path: Path) -> Adapter:
    """Run the file and take what it defines.

    Raises:
        ValueError: the file is not there, does not run, or lacks or misspells something; the message says what.
    """
    module = _run(path)
    defined = vars(module)
    for name, arguments in {**_REQUIRED, **_OPTIONAL}.items():
        if name in _REQUIRED and name not in defined:
            raise ValueError(f"{path}: defines no function {name}{arguments}; see docs/your_own_pair.md")
        if name in defined:
            _check_function(path, name, arguments, defined[name])
    for name in _TABLES:
        if not isinstance(defined.get(name, {}), (Mapping, list, tuple)):
            raise ValueError(f"{path}: {name} must be a dict, found {type(defined[name]).__name__}")
    if "optimizer" in defined and "loss" not in defined:
        raise ValueError(f"{path}: optimizer(model) without loss(outputs, inputs): without a gradient it has no step")
    origin = defined.get("WEIGHTS_FROM", "reference")
    if origin not in ORIGINS:
        raise ValueError(f"{path}: WEIGHTS_FROM is {origin!r}; allowed are {' and '.join(map(repr, ORIGINS))}")
    unknown = [n for n in defined if n.isupper() and n not in (*_TABLES, "WEIGHTS_FROM") and not n.startswith("_")]
    for name in unknown:
        if name.rstrip("S") in {table.rstrip("S") for table in _TABLES}:
            raise ValueError(f"{path}: {name} is not read; did you mean one of {', '.join(_TABLES)}?")
    _refuse_misspelled(path, module)
    return Adapter(
        path=path,
        **{name: defined.get(name) for name in (*_REQUIRED, *_OPTIONAL)},  # type: ignore[arg-type]
        names=defined.get("NAMES", {}),
        weights=defined.get("WEIGHTS", {}),
        stages=defined.get("STAGES"),
        weights_from=origin,
    )


def _refuse_misspelled(path: Path, module: ModuleType) -> None:
    """A function that nobody calls although its name is nearly one that is read."""
    absent = [name for name in _OPTIONAL if name not in vars(module)]
    for name, thing in vars(module).items():
        ours = inspect.isfunction(thing) and thing.__module__ == module.__name__ and name not in _REQUIRED
        if ours and name not in _OPTIONAL and (close := get_close_matches(name, absent, n=1, cutoff=0.85)):
            raise ValueError(f"{path}: {name} is not read; did you mean {close[0]}?")


def audit_adapter(adapter: Adapter, *, seed: int = 0, draws: int = 12, device: str = "cpu") -> PairAudit:
    """Build both sides, match and (unless WEIGHTS_FROM = "own") carry the weights across, and audit one step.

    Raises:
        ValueError: a model does not take its inputs; or weights that the candidate uses and no pass could match, though
            the reference should give them.
    """
    left, right = adapter.sides(seed, device)
    for what, side in zip(SIDES, (left, right), strict=True):
        _check_call(adapter, what, side)
    matched = match_by_use(left, right, adapter.names, adapter.weights)
    if adapter.weights_from == "reference":
        _refuse_open(adapter, matched, right.model)
        _carry(matched, left.model, right.model)
    stages = stages_of(adapter, left.model, right.model)
    if adapter.optimizer:
        for side in (left, right):
            side.remake = adapter.optimizer
            side.optimizer = adapter.optimizer(side.model)
    audit = audit_sides(left, right, stages=stages, seed=seed, draws=draws, matched=matched)
    if adapter.stages is None:
        _set_aside(audit, stages)
    return audit


def _set_aside(audit: PairAudit, stages: Stages) -> None:
    """Modules of one name need not do the same work; unasked, outputs of other shapes are no difference."""
    values = audit.ran.values
    for stage in stages:
        own = [key for key in values if key.startswith(f"{stage}/")]
        shapes = [f"{key.partition('/')[2]}: {values[key].structural}" for key in own if values[key].structural]
        if shapes and all("shape" in text for text in shapes):
            audit.set_aside[stage] = shapes[0]
            for table in (values, audit.ran.unpaired):
                for key in [key for key in table if key.startswith(f"{stage}/")]:
                    del table[key]


def stages_of(adapter: Adapter, left: nn.Module, right: nn.Module) -> Stages:
    """STAGES checked and completed; without it, the children of the reference that the candidate has too.

    Raises:
        ValueError: a stage names a module that is not there.
    """
    modules = [dict(model.named_modules()) for model in (left, right)]
    if adapter.stages is None:
        pairs = {name: (name, adapter.names.get(name, name)) for name, _ in left.named_children()}
        return {name: pair for name, pair in pairs.items() if pair[1] in modules[1]}
    listed = adapter.stages if isinstance(adapter.stages, Mapping) else {name: name for name in adapter.stages}
    stages = {name: (pair, pair) if isinstance(pair, str) else tuple(pair) for name, pair in listed.items()}
    for name, pair in stages.items():
        if len(pair) != 2:
            raise ValueError(f"{adapter.path}: STAGES[{name!r}] must be (reference module, candidate module)")
        for side, module, known in zip(("reference", "candidate"), pair, modules, strict=True):
            if module not in known:
                some = ", ".join(list(known)[1:7])
                raise ValueError(
                    f"{adapter.path}: STAGES[{name!r}]: the {side} has no module {module!r}; it has {some}"
                )
    return stages


def _run(path: Path) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give the adapter's path (docs/your_own_pair.md)")
    spec = importlib.util.spec_from_file_location(f"parity_adapter_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path}: is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        with _importable(path.resolve().parent):
            spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"{path}: does not run: {type(error).__name__}: {error}") from error
    return module


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Adapters import the code beside them; afterwards another folder may hold modules of the same names."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name, module in list(sys.modules.items()):
            if folder in Path(getattr(module, "__file__", None) or "/").parents:
                del sys.modules[name]


def _check_function(path: Path, name: str, arguments: str, found: Any) -> None:
    wanted = 0 if arguments == "()" else arguments.count(",") + 1
    if not callable(found):
        raise ValueError(f"{path}: {name} must be a function {name}{arguments}, found {type(found).__name__}")
    try:
        inspect.signature(found).bind(*[None] * wanted)
    except TypeError:
        raise ValueError(f"{path}: {name} is called as {name}{arguments}; it takes other arguments") from None


def _check_call(adapter: Adapter, what: str, side: Side) -> None:
    """One forward that leaves no trace, so that inputs of another signature are told apart from a failing model."""
    try:
        with generators_kept(), state_kept(side.model), torch.no_grad():
            side.forward()
    except TypeError as error:
        if not _ARGUMENTS.search(str(error)):
            raise
        given = f"arguments {', '.join(side.inputs)}" if isinstance(side.inputs, Mapping) else "what inputs(seed) gives"
        remedy = "change inputs(seed)"
        if what == "candidate":
            remedy = "say what it takes in candidate_inputs(inputs)" + (
                ", which gives these" if adapter.candidate_inputs else ""
            )
        raise ValueError(f"{adapter.path}: the {what} does not take {given}: {error}; {remedy}") from error


def _refuse_open(adapter: Adapter, matched: WeightMap, candidate: nn.Module) -> None:
    open_keys = [key for key in matched.only_candidate if matched.refused.get(key) != UNUSED]
    if not open_keys:
        return
    shapes = tensors_of(candidate)
    lines = [
        f"  {key} {list(shapes[key].shape)}: {matched.refused.get(key, 'nothing in the reference is used like it')}"
        for key in open_keys
    ]
    spare = ", ".join(matched.only_reference) or "none"
    raise ValueError(
        f"{adapter.path}: {len(lines)} weights of the candidate could not be matched:\n" + "\n".join(lines) + "\n"
        f"still free in the reference: {spare} (a weight that the reference ties is free for each of its uses)\n"
        "Say which is which in NAMES (reference -> candidate, modules or weights) or WEIGHTS (candidate -> reference), "
        'or set WEIGHTS_FROM = "own" if the candidate brings its own values.'
    )


def _carry(matched: WeightMap, left: nn.Module, right: nn.Module) -> None:
    theirs, ours = tensors_of(left), tensors_of(right)
    with torch.no_grad():
        for key, match in matched.matches.items():
            ours[key].copy_(match.gather(theirs))
