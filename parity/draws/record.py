"""Recording draws: one list for python, numpy, torch on the CPU, CUDA and own generators, in the order of time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.modules import module as modules
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from parity.compiled import told_as_one
from parity.draws.flow import Flow, tensors
from parity.draws.outside import values_of, watched
from parity.draws.place import caller
from parity.randomness import generator_digest, rng_digest, rng_digests

UNSEEN = "unseen"
_DIGITS = 12
_LEAVES = {Tensor.numpy, Tensor.tolist, Tensor.__array__}  # read a tensor without an operation


@dataclass
class Draw:
    """One call that moved a random generator, or seeded one.

    op: what the code called (`dropout`, `randperm`, `random.randint`); `unseen` for a move that no call explains.
    kernel: torch's operation that drew. generator: `python`, `numpy`, `cpu`, `cuda:N`, or `own (seed S)`.
    before, after: digests of its state. values, shape: how many numbers. p: probability, of dropout.
    module: classes of the modules being called. where: file:line. use: what became of the numbers, see `USES`.
    """

    op: str
    generator: str
    before: str
    after: str
    values: int | None = None
    shape: list[int] | None = None
    p: float | None = None
    kernel: str = ""
    module: str = ""
    where: str = ""
    use: str = "not tracked"


USES = {
    "result": "the result depends on it",
    "no result": "used, but nothing of it reaches the result",
    "unchanged": "read by a module that returned its input unchanged",
    "number": "read as a number and not followed further",
    "used": "used; no result was named",
    "never used": "never used",
    "not tracked": "use not tracked",
    "seed": "seeds the generator",
}


# States, places and uses are for the ledger: they differ between sides that draw the same.
_KIND = ("op", "shape", "p", "generator")


def drawn(draws: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What was drawn, in order, as far as two sides that draw alike agree on it; seeding is no draw."""
    return [{key: draw.get(key) for key in _KIND} for draw in draws if draw.get("use") != "seed"]


@dataclass
class DrawLog:
    """What `record_draws` finds. draws: complete when its block ends, as plain dicts of `Draw`'s fields."""

    draws: list[dict[str, Any]] = field(default_factory=list)
    kept: list[Tensor] = field(default_factory=list)
    flow: Flow = field(default_factory=Flow)
    named: bool = False

    @property
    def masks(self) -> Tensor | None:
        """All 0/1 dropout masks in draw order, flat uint8; None if nothing was dropped out."""
        return torch.cat(self.kept) if self.kept else None

    def reaches(self, results: Any) -> None:
        """Name what the code was run for (losses, updated parameters): draws that it does not depend on are said."""
        self.named = True
        self.flow.reaches(results)


@contextmanager
def record_draws() -> Iterator[DrawLog]:
    """Log every random draw inside, and what becomes of it; the code sees the same streams as without the log.

    Whatever moved a generator unseen (own extensions, functions of `random` imported by name) is logged as `unseen`.
    """
    log = DrawLog()
    ear = _Ear(log)
    with ExitStack() as stack:
        hooks = (
            modules.register_module_forward_pre_hook(log.flow.enter),
            modules.register_module_forward_hook(log.flow.leave, always_call=True),
        )
        for hook in hooks:
            stack.callback(hook.remove)
        stack.enter_context(told_as_one())
        stack.enter_context(watched(ear.outside))
        stack.enter_context(_Functions(ear))
        stack.enter_context(ear)
        yield log
    ear.close()


class _Functions(TorchFunctionMode):
    """Notes the function that the code called, since one call may run several operations."""

    def __init__(self, ear: _Ear) -> None:
        super().__init__()
        self._ear = ear

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _LEAVES and (bits := self._ear.log.flow.bits(args)):
            self._ear.log.flow.number(bits)
        outer, self._ear.function = self._ear.function, (func, args, kwargs)
        try:
            return func(*args, **kwargs)
        finally:
            self._ear.function = outer


class _Ear(TorchDispatchMode):
    """Sees every operation, those of the backward pass included."""

    def __init__(self, log: DrawLog) -> None:
        super().__init__()
        self.log = log
        self.function: tuple[Any, tuple[Any, ...], dict[str, Any]] = (None, (), {})  # called by the code
        self._draws: list[Draw] = []
        self._last = {name: digest[:_DIGITS] for name, digest in rng_digests().items()}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            output = func(*args, **kwargs)
            self.log.flow.operation(func, (args, kwargs), output)
            return output
        generator = kwargs.get("generator")
        name = self._name(generator, args, kwargs)
        before = self._before(name, generator)
        output = func(*args, **kwargs)
        after = self._after(name, generator)
        self.log.flow.operation(func, (args, kwargs), output)
        if before != after:
            self._drawn(func, name, before, after, list(tensors(output)))
        return output

    def outside(
        self, name: str, generator: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Make a call of python's or numpy's generator."""
        before = self._before(generator)
        result = function(*args, **kwargs)
        after = self._after(generator)
        if before != after or name.endswith("seed"):
            draw = Draw(op=name, generator=generator, before=before, after=after, values=values_of(name, result, args))
            draw.use = "seed" if name.endswith("seed") else draw.use
            self._add(draw)
        return result

    def close(self) -> None:
        """Complete the log."""
        for name in self._last:
            self._before(name)
        flow = self.log.flow
        for index, draw in enumerate(self._draws):
            if draw.kernel:
                draw.use = _use(flow, 1 << index, self.log.named)
        self.log.draws = [asdict(draw) for draw in self._draws]

    def _before(self, name: str, generator: torch.Generator | None = None) -> str:
        """The state of a generator; if something moved a global one since it was last seen, that is logged first."""
        last, digest = self._last.get(name), self._after(name, generator)
        if last not in (None, digest):
            self._draws.append(Draw(op=UNSEEN, generator=name, before=str(last), after=digest))
        return digest

    def _after(self, name: str, generator: torch.Generator | None = None) -> str:
        if name not in self._last and generator is not None:
            return generator_digest(generator)[:_DIGITS]
        self._last[name] = rng_digest(name)[:_DIGITS]
        return self._last[name]

    def _drawn(self, kernel: Any, generator: str, before: str, after: str, outputs: list[Tensor]) -> None:
        called, args, kwargs = self.function
        dropout = called is F.dropout
        filled = outputs[-1:] if dropout else outputs[:1]  # a fused dropout returns its mask last
        op = getattr(called, "__name__", "") or kernel.overloadpacket.__name__
        draw = Draw(op=op.strip("_"), generator=generator, before=before, after=after, kernel=str(kernel))
        draw.values = sum(tensor.numel() for tensor in filled)
        draw.shape = list(filled[0].shape) if filled else None
        if dropout:
            draw.p = args[1] if len(args) > 1 else kwargs.get("p", 0.5)
            self.log.kept.append((filled[0] != 0).to(torch.uint8).flatten().cpu())
        self._add(draw)
        self.log.flow.drawn(1 << (len(self._draws) - 1), outputs)

    def _add(self, draw: Draw) -> None:
        draw.module, draw.where = self.log.flow.module, caller()
        self._draws.append(draw)

    def _name(self, generator: torch.Generator | None, args: Any, kwargs: Any) -> str:
        device = kwargs.get("device") or next((tensor.device for tensor in tensors(args)), torch.device("cpu"))
        device = generator.device if generator is not None else torch.device(device)
        if device.type != "cuda":
            name, main = "cpu", torch.default_generator
        else:
            index = torch.cuda.current_device() if device.index is None else device.index
            name, main = f"cuda:{index}", torch.cuda.default_generators[index]
        if generator is None or generator._cdata == main._cdata:  # type: ignore[attr-defined]  # objects may differ
            return name
        return f"own (seed {generator.initial_seed()})"


def _use(flow: Flow, bit: int, named: bool) -> str:
    """The word for what became of a draw, worst knowledge first."""
    if flow.reached & bit:
        return "result"
    if flow.escaped & bit:
        return "number"
    if flow.unchanged & bit:
        return "unchanged"
    if not flow.read & bit:
        return "never used"
    return "no result" if named else "used"
