"""An optimizer update taken apart: the ingredient that departs first is named, with the setting that explains it."""

import pytest
import torch

from parity.optimizer import take_apart
from parity.optimizer_watch import watched_update

NAMES = ("a.weight", "a.bias", "b.weight")
SHAPES = ((4, 3), (4,), (2, 4))


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(0)
    found = {}
    for name, shape in zip(NAMES, SHAPES, strict=True):
        found[f"parameter/{name}"] = torch.randn(shape, generator=generator)
        found[f"gradient/{name}"] = torch.randn(shape, generator=generator) * 1e-5
    return found


def update(inputs, *, kind=torch.optim.Adam, names=NAMES, groups=None, **settings):
    """One update by a subject that calls its parameters anything it likes."""
    with watched_update(inputs) as found:
        own = {name: torch.nn.Parameter(inputs[f"parameter/{name}"].clone()) for name in names}
        for name, parameter in own.items():
            parameter.grad = inputs[f"gradient/{name}"].clone()
        split = groups or [names]
        optimizer = kind([{"params": [own[name] for name in group]} for group in split], **{"lr": 1e-3, **settings})
        optimizer.step()
    results = {}
    for name, parameter in own.items():
        results[f"parameter/{name}"] = parameter.detach()
        results |= {f"{part}/{name}": optimizer.state[parameter][part] for part in ("exp_avg", "exp_avg_sq")}
    return found[0], results


def anatomy(inputs, **modern):
    return take_apart(inputs, *update(inputs), *update(inputs, **modern))


def test_equal_updates_agree_in_every_ingredient(inputs):
    found = anatomy(inputs)
    assert not found.departs
    assert found.sentence == "every ingredient agrees"
    assert [part.parameters for part in found.ingredients] == [len(NAMES)] * 6


@pytest.mark.parametrize(
    ("change", "first", "said"),
    [
        ({"eps": 1e-7}, "denominator", "eps 1e-07 instead of 1e-08"),
        ({"betas": (0.8, 0.999)}, "exp_avg", "beta1 0.8 instead of 0.9"),
        ({"betas": (0.9, 0.99)}, "exp_avg_sq", "beta2 0.99 instead of 0.999"),
        ({"weight_decay": 1e-2}, "gradient", "weight_decay 0.01 instead of 0"),
        ({"lr": 1.01e-3}, "delta", "lr 0.00101 instead of 0.001"),
        ({"maximize": True}, "gradient", "maximize True instead of False"),
        ({"kind": torch.optim.AdamW, "weight_decay": 1e-2}, "delta", "kind AdamW instead of Adam"),
    ],
)
def test_the_ingredient_and_its_setting_are_named(inputs, change, first, said):
    found = anatomy(inputs, **change)
    assert next(part.name for part in found.ingredients if not part.agrees) == first
    assert found.sentence.startswith(f"{first} departs first: ")
    assert said in found.sentence


def test_moments_agree_where_only_the_denominator_departs(inputs):
    assert "gradient, exp_avg, exp_avg_sq, bias correction agree" in anatomy(inputs, eps=1e-7).sentence


def test_what_shows_only_later_is_said_to_be_without_effect(inputs):
    found = anatomy(inputs, amsgrad=True)
    assert found.departs
    assert found.sentence == "amsgrad True instead of False, without effect on this update"


def test_a_missing_parameter_is_named(inputs):
    found = anatomy(inputs, names=NAMES[:2])
    assert found.ownership == ("1 parameter missing: b.weight",)


def test_a_missing_group_and_another_order_are_named(inputs):
    old = update(inputs, groups=[NAMES[:2], NAMES[2:]])
    assert "1 parameter groups instead of 2" in take_apart(inputs, *old, *update(inputs)).ownership
    swapped = anatomy(inputs, names=NAMES[::-1])
    assert swapped.ownership == ("other order from place 0 on: b.weight instead of a.weight",)


def test_equal_values_are_told_apart_by_their_gradients(inputs):
    inputs["parameter/b.weight"] = torch.zeros(2, 4)
    inputs["parameter/a.bias"] = torch.zeros(4)
    assert not anatomy(inputs).departs


def test_where_it_was_built_is_known_and_nothing_stays_patched(inputs):
    original = torch.optim.Optimizer.__init__
    found, _ = update(inputs)
    assert found.made[0].startswith(__file__)
    assert found.made[1] == "update"
    assert torch.optim.Optimizer.__init__ is original
