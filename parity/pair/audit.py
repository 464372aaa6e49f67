"""Audit of two models: one step of both, in step, with figures of every operation, weight, gradient and update."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from parity.comparison import Drift, compare
from parity.noise import Floors, widen
from parity.ops import Call
from parity.pair.align import Alignment
from parity.pair.generators import generators_kept
from parity.pair.isolated import Isolated, isolate_update
from parity.pair.lockstep import SIDES, OutOfStep, Plan, run_in_step
from parity.pair.names import Names, WeightMap, Weights, match_weights, tensors_of
from parity.pair.outcome import compare_outcome, pair_up
from parity.pair.plan import in_order, plan_by_alignment
from parity.pair.settings import compare_settings
from parity.pair.side import Loss, Side, named_tensors, put_back, state_kept
from parity.pair.taps import Stages, Taps
from parity.pair.watch import Cause, Cut, Entry, Watch, weights_by_address
from parity.randomness import seed_everything
from parity.verdict import SAME, Verdict, judge


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What one run of a pair showed, all as drifts of the candidate against the reference.

    entries: pairs of operations in call order. values: "stage/tensor" -> drift, of stages (taps), outputs, loss,
    gradients, buffers, optimizer state and updated weights. unpaired: "stage/tensor" that one side only yielded.
    alone: operations that one side only ran. in_order: whether both ran the same operations.
    ambiguous: groups of operations that could be aligned in more than one way and were left out.
    gradients: the candidate's, as its backward pass left them, if they were to be kept. places: of aligned operations,
    number of the pair -> place among the reference's own. not_reached: stage -> sides that never call its module.
    cut: the first operation through which a gradient flows on one side only.
    """

    entries: list[Entry]
    values: dict[str, Drift]
    unpaired: dict[str, int]
    alone: tuple[list[Call], list[Call]]
    in_order: bool
    ambiguous: int
    gradients: dict[str, Tensor] = field(default_factory=dict)
    places: tuple[int, ...] = ()
    not_reached: dict[str, list[int]] = field(default_factory=dict)
    cut: Cut | None = None

    def floor_key(self, entry: Entry, output: int) -> str:
        """The key in `PairAudit.floors` of one output of the reference's operation."""
        return f"op/{entry.number if self.in_order else self.places[entry.number]}/{output}"

    @property
    def first(self) -> Entry | None:
        """The first operation whose results differ although what it was given does not, weights apart."""
        return next((entry for entry in self.entries if entry.cause not in (None, Cause.INHERITED)), None)


@dataclass(kw_only=True)
class PairAudit:
    """Everything an audit found; `parity.pair.verdicts` turns it into words.

    weights: how weights were matched; given: drift of each candidate weight before the step. floors: noise floors by
    the keys of `values`, and "op/NUMBER/OUTPUT" for operations run in order. unstable: side -> keys in which it did
    not repeat itself (empty dict: not tried). isolated: the update by itself, where it is beyond its floor. settings:
    how the two optimizers differ, in words. set_aside: stages that nobody asked for and that cannot be compared, with
    the reason. untied: weight of the reference -> weights of the candidate that are each a copy of it, so that each
    gets a part of its gradient.
    """

    ran: Ran
    weights: WeightMap
    given: dict[str, Drift]
    changed_inputs: list[str] = field(default_factory=list)
    floors: Floors = field(default_factory=dict)
    draws: int = 0
    unstable: dict[str, list[str]] = field(default_factory=dict)
    isolated: Isolated | None = None
    settings: tuple[str, ...] = ()
    set_aside: dict[str, str] = field(default_factory=dict)
    untied: dict[str, list[str]] = field(default_factory=dict)

    @cached_property
    def gradients_agree(self) -> bool:
        """Whether every gradient is identical or rounding, and none is on one side only or does not repeat itself."""
        found = {key: drift for key, drift in self.ran.values.items() if key.startswith("gradients/")}
        alone = any(key.startswith("gradients/") for key in self.ran.unpaired)
        unstable = any(found.keys() & set(keys) for keys in self.unstable.values())
        words = (judge(drift, self.floors.get(key))[0] for key, drift in found.items())
        return bool(found) and not alone and not unstable and all(word in SAME for word in words)

    @property
    def first(self) -> Entry | None:
        """The first operation that departs; None if all operations give the same bytes."""
        return self.ran.first


def audit_pair(
    reference: nn.Module,
    candidate: nn.Module,
    inputs: Any,
    *,
    loss: Loss | None = None,
    optimizers: tuple[torch.optim.Optimizer, torch.optim.Optimizer] | None = None,
    names: Names | None = None,
    weights: Weights | None = None,
    stages: Stages | None = None,
    seed: int = 0,
    draws: int = 0,
) -> PairAudit:
    """Run both models on the same inputs and seeds, and compare everything they compute while they compute it.

    Both models end as after one ordinary step (gradients, running statistics, updated weights); nothing else stays.

    Args:
        reference: the model trusted.
        candidate: the model examined; must not share modules or weights with `reference`.
        inputs: a tensor, or a tuple or dict that is spread over the arguments. Each side gets a copy.
        loss: of (outputs, inputs), a scalar to run backward from; None: forward only.
        optimizers: of reference and candidate, each to make one update; None: no update. Their step hooks run in that
            update, but not in the draws of noise: they are functions of a model that cannot be copied.
        names: reference name -> candidate name, of modules or weights (parity.pair.names).
        weights: candidate weight -> reference weight or a function that gathers it.
        stages: name -> (module of the reference, module of the candidate), to be compared whatever lies between.
        seed: of every generator, before either side.
        draws: one-ULP perturbations of the reference that measure the noise floor; 0: figures without a floor.

    Raises:
        ValueError: the models share weights, an entry of `names`, `weights` or `stages` fits nothing, or `optimizers`
            without `loss`.
    """
    if optimizers and loss is None:
        raise ValueError("optimizers without loss: without a gradient they have no step")
    left_optimizer, right_optimizer = optimizers or (None, None)
    left, right = Side(reference, inputs, loss, left_optimizer), Side(candidate, inputs, loss, right_optimizer)
    left.inputs, right.inputs = left.copied_inputs(), right.copied_inputs()
    return audit_sides(left, right, names=names, weights=weights, stages=stages, seed=seed, draws=draws)


def audit_sides(
    left: Side,
    right: Side,
    *,
    names: Names | None = None,
    weights: Weights | None = None,
    stages: Stages | None = None,
    seed: int = 0,
    draws: int = 0,
    matched: WeightMap | None = None,
) -> PairAudit:
    """`audit_pair` for sides that bring their own inputs; `matched` if their weights have been matched before."""
    _check_apart(left.model, right.model)
    given_inputs = [side.copied_inputs() for side in (left, right)]
    found = matched or match_by_use(left, right, names, weights)
    originals = [left.copied(), right.copied()] if draws else []
    given = _given(found, left.model, right.model)
    unequal = {key for key, drift in given.items() if not drift.bitwise}
    settings = compare_settings(found, (left, right))
    ran = run_pair(left, right, found, stages or {}, seed, unequal, keep=bool(draws))
    audit = PairAudit(ran=ran, weights=found, given=given, changed_inputs=_changed(given_inputs, (left, right)))
    audit.settings, audit.untied = settings, _untied(found, left.model, right.model)
    if draws:
        taps = [_own(stages or {}, place) for place in range(2)]
        maps = [replace(found, mirrored=True), match_weights(right.model, right.model, ())]
        audit.unstable = {
            name: _unrepeated(side, maps[place], taps[place], seed)
            for place, (name, side) in enumerate(zip(SIDES, originals, strict=True))
        }
        audit.draws, audit.floors = draws, measure_floors(originals[0], maps[0], taps[0], seed, draws)
        if any(_beyond(key, drift, audit.floors) for key, drift in ran.values.items()):
            audit.isolated = isolate_update(originals[0], (left, right), found, ran.gradients, draws)
    return audit


def _beyond(key: str, drift: Drift, floors: Floors) -> bool:
    return key.startswith("update/") and judge(drift, floors.get(key))[0] is Verdict.DRIFT


def match_by_use(left: Side, right: Side, names: Names | None, weights: Weights | None) -> WeightMap:
    """`match_weights`, whose forward runs leave no trace."""
    with generators_kept(), state_kept(left.model), state_kept(right.model), torch.no_grad():
        return match_weights(left.model, right.model, (left.forward, right.forward), names, weights)


def measure_floors(reference: Side, weights: WeightMap, stages: Stages, seed: int, draws: int) -> Floors:
    """Largest drift of the reference against itself with inputs and weights moved by one ULP, over `draws` draws.

    weights: mirrored, so that what the candidate keeps apart is measured apart. stages: of the reference on both sides.
    """
    floors: Floors = {}
    for draw in range(draws):
        for key, drift in keyed(run_pair(reference.copied(), reference.moved(draw), weights, stages, seed)):
            widen(floors, key, drift)
    return floors


def keyed(ran: Ran) -> Iterable[tuple[str, Drift]]:
    """Every drift of a run with its key; operations go by their number, which names the same one in each such run."""
    if ran.in_order:
        for entry in ran.entries:
            for place, drift in enumerate(entry.drifts):
                yield ran.floor_key(entry, place), drift
    yield from ran.values.items()


def run_pair(
    left: Side,
    right: Side,
    weights: WeightMap,
    stages: Stages,
    seed: int,
    unequal: Iterable[str] = (),
    *,
    keep: bool = False,
) -> Ran:
    """One step of both sides; operations meet in order, or as aligned where they are not the same.

    keep: whether the candidate's gradients are to be kept as they are before the update.
    """
    sides = (left, right)
    if _looks_alike(left.model, right.model):
        buffers = [{name: buffer.clone() for name, buffer in side.model.named_buffers()} for side in sides]
        try:
            return _run(sides, in_order, weights, stages, seed, unequal, keep)
        except OutOfStep:
            for side, kept in zip(sides, buffers, strict=True):
                put_back(side.model, kept)
    plan, alignment = plan_by_alignment(sides, weights)
    return _run(sides, plan, weights, stages, seed, unequal, keep, alignment)


def _run(
    sides: tuple[Side, Side],
    plan: Plan,
    weights: WeightMap,
    stages: Stages,
    seed: int,
    unequal: Iterable[str],
    keep: bool,
    alignment: Alignment | None = None,
) -> Ran:
    watch, taps = Watch(weights_by_address(sides[1].model), frozenset(unequal)), Taps(stages)
    steps = [partial(side.step, watching=partial(taps.on, place)) for place, side in enumerate(sides)]
    with generators_kept():
        seed_everything(seed)
        (left_outputs, left_loss), (right_outputs, right_loss) = run_in_step(steps, plan, watch)
    values, unpaired = dict(taps.drifts), dict(taps.unpaired)
    pair_up("output", left_outputs, right_outputs, values, unpaired)
    if left_loss is not None and right_loss is not None:
        values["loss/loss"] = compare(left_loss, right_loss)
    gradients = _gradients(sides[1].model) if keep else {}
    compare_outcome(weights, sides, values, unpaired, watch.latest)
    return Ran(
        entries=watch.entries,
        values=values,
        unpaired=unpaired,
        alone=watch.alone_calls,
        in_order=plan is in_order,
        ambiguous=len(alignment.ambiguous) if alignment else 0,
        gradients=gradients,
        places=tuple(place for place, _ in alignment.pairs) if alignment else (),
        not_reached=taps.not_reached,
        cut=watch.cut,
    )


def _gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.detach().clone() for name, p in model.named_parameters() if p.grad is not None}


def _looks_alike(left: nn.Module, right: nn.Module) -> bool:
    """Whether both are built alike, so that running them in step is worth a try."""
    kinds = [[type(module).__name__ for module in model.modules()] for model in (left, right)]
    return kinds[0] == kinds[1]


def _check_apart(left: nn.Module, right: nn.Module) -> None:
    shared = {id(tensor): name for name, tensor in tensors_of(left).items()}
    for name, tensor in tensors_of(right).items():
        if id(tensor) in shared:
            raise ValueError(f"both sides hold the same tensor {name!r}; audit a deep copy (copy.deepcopy(model))")


def _given(weights: WeightMap, left: nn.Module, right: nn.Module) -> dict[str, Drift]:
    theirs, ours = tensors_of(left), tensors_of(right)
    return {key: compare(match.gather(theirs).detach(), ours[key].detach()) for key, match in weights.matches.items()}


def _untied(weights: WeightMap, left: nn.Module, right: nn.Module) -> dict[str, list[str]]:
    theirs, ours = tensors_of(left), tensors_of(right)
    copies: dict[str, list[str]] = {}
    for key, match in weights.matches.items():
        if len(match.reference) == 1 and ours[key].numel() == theirs[match.reference[0]].numel():
            copies.setdefault(match.reference[0], []).append(key)
    return {name: keys for name, keys in copies.items() if len(keys) > 1}


def _changed(given: list[Any], sides: tuple[Side, Side]) -> list[str]:
    """Inputs that a side changed in place, as "side: input"."""
    return [
        f"{name}: {key}"
        for name, before, side in zip(SIDES, given, sides, strict=True)
        for (key, old), new in zip(named_tensors(before).items(), named_tensors(side.inputs).values(), strict=True)
        if not compare(old, new).bitwise
    ]


def _own(stages: Stages, side: int) -> Stages:
    """The same stages, of one side on both."""
    return {name: (pair[side], pair[side]) for name, pair in stages.items()}


def _unrepeated(side: Side, weights: WeightMap, stages: Stages, seed: int) -> list[str]:
    """Keys in which a side differs from itself, run again with the same seeds."""
    ran = run_pair(side.copied(), side.copied(), weights, stages, seed)
    return [key for key, drift in keyed(ran) if not drift.bitwise]
