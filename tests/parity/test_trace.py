"""What a trace copies and what it takes over."""

import torch

from parity.trace import Trace


def update(last):
    trace, live = Trace(subject="legacy"), {name: torch.zeros(3) for name in ("gradient", "moment", "parameter")}
    adam = {"exp_avg/w": live["moment"], "parameter/w": live["parameter"]}
    trace.put_update(("gradients", {"w": live["gradient"]}), ("adam", adam), 0, last)
    for tensor in live.values():
        tensor += 1
    return {name: float(tensor[0]) for name, tensor in trace.tensors.items()}


def test_before_the_last_step_nothing_recorded_follows_what_comes_later():
    assert update(last=False) == {"gradients/w": 0, "adam/exp_avg/w": 0, "adam/parameter/w": 0}


def test_after_the_last_step_only_parameters_are_copied_since_they_are_put_back():
    assert update(last=True) == {"gradients/w": 1, "adam/exp_avg/w": 1, "adam/parameter/w": 0}


def test_the_order_is_that_of_the_calls():
    trace = Trace(subject="legacy")
    states = {"exp_avg/a": torch.zeros(1), "parameter/a": torch.zeros(1), "exp_avg/b": torch.zeros(1)}
    trace.put_update(("gradients", {"a": torch.zeros(1)}), ("adam", states), 2, last=True)
    assert list(trace.tensors) == ["gradients/a@2", *(f"adam/{name}@2" for name in states)]


def test_views_are_copied_when_taken():
    trace, whole = Trace(subject="legacy"), torch.zeros(4, 2)
    trace.take("gradients", {"half": whole[:2], "turned": whole.T})
    whole += 1
    assert not trace.tensors["gradients/half"].any()
    assert not trace.tensors["gradients/turned"].any()
