"""A folder of recorded vectors, read and checked; `Material` is the part of it that a recipe may see."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fixtures import seeded
from parity.coverage import ConformError, Rule, load_rules

_MAKE = re.compile(r"\bmake\((\d+)\)")
_STORED_INPUT = "/in"  # README of deca_base: inputs that are stored rather than drawn end like this


@dataclass(frozen=True, kw_only=True)
class Material:
    """What weights and inputs are rebuilt from; it holds no expected value.

    folder: for assets. stem: `vectors_coarse` and the like. prefix: put before every name that is drawn from.
    keys: keys.json, module -> state-dict key -> (shape, dtype name). given: the stored inputs by vector name.
    head_seed: of the procedural head, where a recipe uses one.
    """

    folder: Path
    stem: str
    prefix: str
    keys: Mapping[str, Any]
    given: Mapping[str, Tensor]
    head_seed: int = 0

    def draw(self, name: str, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> Tensor:
        """float32 tensor of `shape`, uniform on [low, high), from prefix and name."""
        return seeded.uniform(name, shape, low, high, prefix=self.prefix)

    def check_weights(self, entry: str, state: Mapping[str, Tensor]) -> None:
        """Raise ConformError unless `state` has exactly the names and shapes of keys.json's `entry`."""
        wanted = {key: tuple(shape) for key, (shape, _) in self.keys.get(entry, {}).items()}
        held = {key: tuple(tensor.shape) for key, tensor in state.items()}
        if wanted != held:
            odd = sorted(key for key in wanted.keys() | held.keys() if wanted.get(key) != held.get(key))
            raise ConformError(
                f"{self.folder / 'keys.json'}: {entry} differs from the networks of this repository at "
                f"{len(odd)} entries, first {odd[0]}: {wanted.get(odd[0])} against {held.get(odd[0])}"
            )


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """A whole folder: what a recipe may know, the rules, the recorded vectors by name, and the JSON beside them."""

    material: Material
    rules: tuple[Rule, ...]
    recorded: Mapping[str, Tensor]
    document: Mapping[str, Any]

    @property
    def threads(self) -> int:
        """Threads of the recording, where its JSON names them; they decide the order of sums and so the last digits."""
        runs = self.document.get("runs", {})
        named = [run.get("threads") for run in runs.values() if isinstance(run, dict)] if isinstance(runs, dict) else []
        return max((count for count in named if isinstance(count, int)), default=1)


def load_folder(folder: Path, stems: Collection[str]) -> Vectors:
    """Read a folder of vectors.

    Args:
        folder: holds `<stem>.json`, `<stem>.safetensors`, keys.json, coverage.json and the recipe's assets.
        stems: those a recipe exists for.

    Raises:
        ConformError: if a file is missing or corrupt, or the stem is not among `stems`.
    """
    stem = _stem(folder, stems)
    facts, keys = _read_json(folder / f"{stem}.json"), _read_json(folder / "keys.json")
    prefix = facts.get("seed_prefix", "")
    if not isinstance(prefix, str):
        raise ConformError(f"{folder / stem}.json: seed_prefix is {prefix!r}, expected text")
    recorded = _read_tensors(folder / f"{stem}.safetensors")
    material = Material(
        folder=folder,
        stem=stem,
        prefix=prefix,
        keys=keys,
        given={name: tensor for name, tensor in recorded.items() if name.endswith(_STORED_INPUT)},
        head_seed=_head_seed(folder, facts),
    )
    rules = load_rules(folder / "coverage.json")
    return Vectors(material=material, rules=rules, recorded=recorded, document=facts)


def _head_seed(folder: Path, facts: Mapping[str, Any]) -> int:
    """Argument of the head generator's `make`: the JSON's `head_seed`, or as the folder's README calls it, or 0."""
    seed = facts.get("head_seed")
    if seed is None and (readme := folder / "README.md").exists():
        seed = next(iter(_MAKE.findall(readme.read_text(errors="replace"))), None)
    try:
        return int(seed or 0)
    except (TypeError, ValueError) as error:
        raise ConformError(f"{folder}: head_seed is {seed!r}, expected a whole number") from error


def _stem(folder: Path, known: Collection[str]) -> str:
    found = sorted({path.stem for path in folder.glob("vectors_*.*")}) if folder.is_dir() else []
    if len(found) != 1:
        raise ConformError(f"{folder}: expected one vectors_*.json with its .safetensors, found {found or 'none'}")
    if found[0] not in known:
        raise ConformError(f"{folder}: {found[0]} is not supported yet; recipes exist for {', '.join(sorted(known))}")
    return found[0]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ConformError(f"{path} is missing; copy the whole folder again") from error
    except ValueError as error:
        raise ConformError(f"{path} is not valid JSON ({error}); copy it again") from error
    if not isinstance(document, dict):
        raise ConformError(f"{path} holds {type(document).__name__}, expected an object")
    return document


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if not path.exists():
        raise ConformError(f"{path} is missing; copy the whole folder again")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ConformError(f"{path} is corrupt ({error}); copy it again") from error
    if not tensors:
        raise ConformError(f"{path} holds no vector")
    return dict(sorted(tensors.items()))
