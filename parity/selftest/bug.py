"""What a planted bug is, and what is expected of the audit."""

from __future__ import annotations

from dataclasses import dataclass

from parity.pipelines import pipeline_of
from parity.selftest.mutation import Edit


@dataclass(frozen=True)
class Bug:
    """One bug.

    variant: the run it is planted in. stage: where the audit must see it first. kind: a word or two. step: only
    modern's own training step shows it. below: why it cannot be seen at its own stage, if it cannot; such a bug counts
    as neither caught nor missed. manifest: functions (`file:function`) where it shows, if not where it was planted.
    """

    id: str
    variant: str
    stage: str
    kind: str
    edits: tuple[Edit, ...]
    step: bool = False
    below: str = ""
    manifest: tuple[str, ...] = ()

    @property
    def pipeline(self) -> str:
        """The pipeline of its variant."""
        return pipeline_of(self.variant).name


def bug(
    variant: str,
    stage: str,
    id: str,
    kind: str,
    file: str,
    old: str,
    new: str,
    *,
    times: int = 1,
    step: bool = False,
    below: str = "",
    manifest: str = "",
    more: tuple[Edit, ...] = (),
) -> Bug:
    """A bug of one edit, and perhaps `more`; `manifest` is a comma-separated list."""
    places = tuple(place for place in manifest.split(",") if place)
    return Bug(
        f"{pipeline_of(variant).name[0]}-{id}",
        variant,
        stage,
        kind,
        (Edit(file, old, new, times), *more),
        step,
        below,
        places,
    )
