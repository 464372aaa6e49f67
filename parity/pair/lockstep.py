"""Two computations run in step: two threads take turns, operation by operation, and meet where both produced a value.

Only one of them runs at a time, so that a value is compared while it is alive on both sides and neither trace is ever
held. Each side has the global generators to itself: their states change hands together with the turn.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from parity.ops import Call
from parity.pair.generators import generator_states, generators_kept, restore_generators, separated
from parity.pair.memory import give_back_memory

SIDES = ("reference", "candidate")
_UNINITIALISED = ("aten.empty", "aten.new_empty")  # what they return is whatever the memory held
_TIDY = 768 * 2**20  # bytes compared between two returns of free memory, whose pages cost time to get again


class Stopped(BaseException):
    """Raised in one side's thread when the other side failed; not an Exception, so that models do not swallow it."""


class OutOfStep(Exception):
    """The two sides run different operations, so that their values cannot be paired by position."""


@dataclass(frozen=True, slots=True)
class Produced:
    """What one side has just computed; the tensors are alive, and unchanged, until its next turn."""

    call: Call
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    carried: tuple[bool, ...]  # for each input: whether a gradient is going to flow back through it


# (side, number of the operation) -> number of the meeting; None: no partner, so nobody waits for it
Plan = Callable[[int, int], int | None]


class Meeting(Protocol):
    """What is told of the values; both threads stand still meanwhile."""

    def together(self, number: int, reference: Produced, candidate: Produced) -> None:
        """Both sides produced the values of meeting `number`."""

    def alone(self, side: int, produced: Produced) -> None:
        """One side produced a value that has no partner."""


def run_in_step(sides: Sequence[Callable[[Lane], Any]], plan: Plan, meeting: Meeting) -> list[Any]:
    """Run both sides, each in a thread of its own, and have every pair of operations that `plan` pairs meet.

    Args:
        sides: reference and candidate; each gets its lane, to be told of every operation (`parity.ops.Listener`).
        plan: which operations meet; must keep their order.
        meeting: told of every value.

    Returns:
        What the two returned.

    Raises:
        OutOfStep: one side runs an operation that should meet a partner, and the other ends without it.
        Exception: what a side or `meeting` raised; the other side is stopped at its next operation.
    """
    track = _Track(plan, meeting)
    lanes = [Lane(track, side) for side in range(len(SIDES))]
    threads = torch.get_num_threads()
    workers = [
        threading.Thread(target=lane.run, args=(side, threads), name=name, daemon=True)
        for lane, side, name in zip(lanes, sides, SIDES, strict=True)
    ]
    with generators_kept():
        for worker in workers:
            worker.start()
        try:
            for worker in workers:
                worker.join()
        except BaseException:
            track.fail(Stopped())
            for worker in workers:
                worker.join()
            raise
    if track.failure is not None:
        raise track.failure
    return [lane.result for lane in lanes]


class Lane:
    """One side: a listener of operations that waits for its partner where the plan says so."""

    def __init__(self, track: _Track, side: int) -> None:
        self._track, self._side, self._number = track, side, 0
        self.result: Any = None

    def before(self, call: Call, inputs: Sequence[Tensor]) -> None:
        """Nothing to do: values are met after they are computed."""

    def after(self, call: Call, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        """Meet the other side with what was computed."""
        if is_value(call, outputs):
            self._number += 1
            carried = tuple(torch.is_grad_enabled() and tensor.requires_grad for tensor in inputs)
            self._track.arrive(self._side, self._number - 1, Produced(call, inputs, outputs, carried))

    def run(self, side: Callable[[Lane], Any], threads: int) -> None:
        """Thread body; `threads`: torch's setting, which a new thread does not inherit."""
        torch.set_num_threads(threads)
        try:
            self._track.begin(self._side)
            with torch.autograd.set_multithreading_enabled(False):  # backward operations run in this thread
                self.result = side(self)
        except Stopped:
            pass
        except BaseException as error:
            error.add_note(f"raised while the {SIDES[self._side]} ran")
            self._track.fail(error)
        finally:
            self._track.end(self._side)


def is_value(call: Call, outputs: Sequence[Tensor]) -> bool:
    """Whether an operation computes something that can be compared: no view, no uninitialised memory."""
    return bool(outputs) and not call.view and not call.op.startswith(_UNINITIALISED)


class _Track:
    def __init__(self, plan: Plan, meeting: Meeting) -> None:
        self._plan, self._meeting = plan, meeting
        self._gates = [threading.Lock() for _ in SIDES]
        for gate in self._gates:
            gate.acquire()
        self._ended, self._met = [False, False], 0
        self._waiting: tuple[int, Produced] | None = None  # meeting, and what the reference brought to it
        self._generators = [separated(generator_states()) for _ in SIDES]
        self.failure: BaseException | None = None
        self._gates[0].release()

    def begin(self, side: int) -> None:
        self._wait(side)

    def arrive(self, side: int, number: int, produced: Produced) -> None:
        if self.failure is not None:
            raise Stopped
        place = self._plan(side, number)
        if place is None:
            self._guarded(lambda: self._meeting.alone(side, produced))
        elif self._waiting is None:
            if self._ended[1 - side]:
                self._guarded(lambda: _out_of_step(side, produced.call))
            self._waiting = (place, produced)
            self._generators[side] = generator_states()
            self._open(1 - side)
            self._wait(side)
        else:
            (expected, other), self._waiting = self._waiting, None
            assert expected == place, f"meetings {expected} and {place} are out of order"
            pair = (other, produced) if side else (produced, other)
            self._guarded(lambda: self._meeting.together(place, *pair))
            self._met += sum(tensor.nbytes for tensor in produced.outputs)
            if self._met > _TIDY:
                self._met = 0
                give_back_memory()

    def _guarded(self, told: Callable[[], None]) -> None:
        try:
            told()
        except BaseException as error:  # kept here: the model around us may catch what passes through it
            self.fail(error)
            raise Stopped from error

    def end(self, side: int) -> None:
        self._ended[side] = True
        if self._waiting is not None and self.failure is None:
            self.fail(OutOfStep(_alone(1 - side, self._waiting[1].call)))
        self._waiting = None
        self._generators[side] = generator_states()
        self._open(1 - side)

    def fail(self, error: BaseException) -> None:
        if self.failure is None:
            self.failure = error
        self._open(0)
        self._open(1)

    def _open(self, side: int) -> None:
        if self._gates[side].locked():
            self._gates[side].release()

    def _wait(self, side: int) -> None:
        self._gates[side].acquire()
        if self.failure is not None:
            raise Stopped
        restore_generators(self._generators[side])


def _alone(side: int, call: Call) -> str:
    return f"only the {SIDES[side]} runs {call.op} (module {call.module or '(none)'}, {call.source})"


def _out_of_step(side: int, call: Call) -> None:
    raise OutOfStep(_alone(side, call))
