"""Where a run finds what all runs share and leaves its own files, and who keeps a clip company in a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from fixtures.atomic import filled_once
from parity.subject import StateDicts

# Positions of the clip under observation (0) and its companions in one batch.
COMPANY: Mapping[str, list[int]] = {
    "alone": [0],
    "beside": [0, 1, 2],
    "permuted": [2, 0, 1],
    "repeated": [0, 0, 0],
}


@dataclass(frozen=True)
class Place:
    """Folders of a run.

    shared: what every run of the same sources needs, made by the first one that asks. scratch: the run's own, kept
    between its processes.
    """

    shared: Path
    scratch: Path

    @property
    def clips(self) -> Path:
        """The training data, as `fixtures.clip_tree` writes it."""
        return self.shared / "clips"

    def once(self, name: str, fill: Callable[[Path], object]) -> Path:
        """The shared folder `name`, filled by the first run that asks; it appears whole or not at all."""
        return filled_once(self.shared / name, fill)

    def weights(self, name: str, make: Callable[[], StateDicts]) -> dict[str, dict[str, Tensor]]:
        """The state dicts that `make` yields, read from the shared folder: to draw them takes seconds."""

        def fill(part: Path) -> None:
            flat = {f"{module}/{key}": value for module, state in make().items() for key, value in state.items()}
            save_file(flat, part / _WEIGHTS)

        found: dict[str, dict[str, Tensor]] = {}
        for name_and_key, value in load_file(self.once(name, fill) / _WEIGHTS).items():
            module, _, key = name_and_key.partition("/")
            found.setdefault(module, {})[key] = value
        return found


_WEIGHTS = "weights.safetensors"
