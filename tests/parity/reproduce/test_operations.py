"""The log of operations: what it counts, what it passes over, and that it leaves results alone."""

import torch

from parity.reproduce.operations import NOTE, RACERS, OperationLog, first_moved
from parity.reproduce.run import Run
from parity.reproduce.watch import Watch


def logged(work, share: int = 1) -> dict:
    watch = Watch()
    log = OperationLog(Run(subject="x", pipeline="x", operations=True), watch, {}, share)
    log.start()
    work()
    log.stop()
    return watch.notes


def test_only_writes_that_add_are_counted_as_racing() -> None:
    vertices, faces = torch.zeros(10, 3, requires_grad=True), torch.arange(20) % 10

    def work() -> None:
        masked = torch.zeros(3)
        masked[torch.tensor([True, False, True])] = 1.0
        vertices[faces].sum().backward()

    found = logged(work)
    assert found[RACERS] == 1
    assert [entry[0] for entry in found[NOTE]].count("aten.index_put_.default") == 1


def test_copies_and_unwritten_memory_are_no_operations_that_could_move() -> None:
    found = logged(lambda: (torch.empty(1000), torch.ones(3, 4).t().contiguous(), torch.ones(3).clone()))
    assert [entry[0] for entry in found[NOTE]] == ["aten.ones.default", "aten.ones.default"]


def test_one_flipped_bit_in_one_operation_is_found_there() -> None:
    value = torch.arange(6.0).reshape(2, 3) + 1
    moved = value.clone()
    moved[0, 0] = torch.nextafter(moved[0, 0], torch.tensor(9.0))
    before, after = (logged(lambda x=x: (torch.ones(2).exp(), x * 2, x + 1))[NOTE] for x in (value, moved))
    found = first_moved(before, after)
    assert found is not None
    assert found.op == "aten.mul.Tensor"
    assert first_moved(before, before) is None
