"""What is due at which step. Pure: a function of the step alone, so that resuming cannot shift it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Intervals of a run, all in steps but for epochs (coarse spec 7). Step g is the one with g updates before it.

    Attributes:
        steps_per_epoch: batches of an epoch.
        max_epochs: the run ends after this many epochs,
        max_steps: or after this many steps, if that is earlier.
        log_steps: losses are logged every so often, the first step included.
        vis_steps: logged steps also get a picture every so often, and at the end of an epoch.
        checkpoint_steps: a checkpoint is written every so often, not at the first step, and at the end of an epoch.
    """

    steps_per_epoch: int
    max_epochs: int
    max_steps: int
    log_steps: int
    vis_steps: int
    checkpoint_steps: int

    def __post_init__(self) -> None:
        if bad := {name: value for name, value in vars(self).items() if value < 1}:
            raise ValueError(f"training schedule: {bad} must be at least 1")

    @property
    def total(self) -> int:
        """Steps of the whole run."""
        return min(self.max_epochs * self.steps_per_epoch, self.max_steps)

    def ends_epoch(self, step: int) -> bool:
        """Whether the step uses the last batch of its epoch."""
        return (step + 1) % self.steps_per_epoch == 0

    def logs(self, step: int) -> bool:
        """Whether losses are logged."""
        return step % self.log_steps == 0

    def draws(self, step: int) -> bool:
        """Whether a picture is drawn."""
        return self.logs(step) and (step % self.vis_steps == 0 or self.ends_epoch(step))

    def saves(self, step: int) -> bool:
        """Whether a checkpoint is written."""
        return (step > 0 and step % self.checkpoint_steps == 0) or self.ends_epoch(step)

    def keeps(self, step: int) -> bool:
        """Whether that checkpoint stays when newer ones are written."""
        return self.ends_epoch(step)

    def where(self, step: int) -> str:
        """The step in words, e.g. "epoch 3, 5/7"."""
        epoch, position = divmod(step, self.steps_per_epoch)
        return f"epoch {epoch}, {position + 1}/{self.steps_per_epoch}"
