"""The runs that are compared over many steps, as plain values.

Noise arms are legacy with a change that is nobody's fault; control arms are legacy with a planted bug, which shows what
the comparison can see at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch.optim import Optimizer

from parity.bare import BareLoop
from parity.batch import Batch
from parity.perturb import perturbed_batch

Kind = Literal["reference", "candidate", "noise", "control"]
FIRST_STEPS = 5  # beyond them chaos makes bugs and rounding look alike (docs/steps.md)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One run.

    draw: seeds the move of every pixel by -1, 0 or +1 unit in the last place.
    weight: move one weight by one unit in the last place before the first step.
    settings: optimizer setting -> factor on it (`beta1` for the first of `betas`), in every optimizer.
    first_steps_only: what comes later says nothing, so it is not run.
    """

    name: str
    subject: str
    kind: Kind
    draw: int | None = None
    weight: bool = False
    settings: tuple[tuple[str, float], ...] = ()
    first_steps_only: bool = False

    def batch(self, batch: Batch) -> Batch:
        """What this arm is given."""
        return batch if self.draw is None else perturbed_batch(batch, self.draw)

    def start(self, loop: BareLoop) -> None:
        """Apply the arm's change to a fresh loop."""
        if self.weight:
            _move_one_weight(loop)
        for optimizer in loop.optimizers.values():
            _tamper(optimizer, dict(self.settings))


def arms(draws: int) -> tuple[Arm, ...]:
    """All arms, those that take longest first; `draws` noise arms, of which one moves a single weight."""
    noise = [Arm(name="one weight + 1 ULP", subject="legacy", kind="noise", weight=True)]
    noise += [
        Arm(name=f"pixels +- 1 ULP, draw {draw}", subject="legacy", kind="noise", draw=draw) for draw in range(1, draws)
    ]
    controls = {"lr x 1.0001": (("lr", 1.0001),), "beta1 x 1.01": (("beta1", 1.01),)}
    return (
        Arm(name="legacy", subject="legacy", kind="reference"),
        Arm(name="modern", subject="modern", kind="candidate"),
        *noise[:draws],
        *(
            Arm(name=name, subject="legacy", kind="control", settings=settings, first_steps_only=True)
            for name, settings in controls.items()
        ),
    )


def _tamper(optimizer: Optimizer, settings: Mapping[str, float]) -> None:
    for group in optimizer.param_groups:
        for name, factor in settings.items():
            if name == "beta1":
                group["betas"] = (group["betas"][0] * factor, group["betas"][1])
            else:
                group[name] *= factor


def _move_one_weight(loop: BareLoop) -> None:
    """The largest bias of the coder's last layer: a weight may meet a zero, a bias reaches the codes in every step."""
    biases = [value for name, value in loop.coder.named_parameters() if name.endswith("bias")]
    with torch.no_grad():
        flat = biases[-1].view(-1)
        place = int(flat.abs().argmax())
        flat[place] = torch.nextafter(flat[place], torch.full_like(flat[place], torch.inf))
