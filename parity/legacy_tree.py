"""Which tree legacy is imported from in this process: the reconstruction under legacy/, or a lab's own checkout.

Both forks call their package `decalib`. The reconstructed detail fork goes by a name of its own: inside, it only uses
relative imports, so that one process can hold both forks. A checkout may import itself as `decalib`, keeps that name,
and has its process to itself: nothing named `decalib` is ever taken from two trees.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from parity.checkout import COARSE, DETAIL, NUMPY_ALIASES, CheckoutError, Fork
from parity.files import ROOT

PACKAGES = {COARSE: "decalib", DETAIL: "legacy_aucgan_decalib"}
_chosen: dict[Fork, Path] = {}


def reconstruction(fork: Fork) -> Path:
    """The folder of the reconstructed fork."""
    return ROOT / "legacy" / fork.name


def choose_tree(fork: Fork, root: str) -> None:
    """From now on this process imports `fork` from the checkout at `root`; the reconstruction if `root` is empty.

    Raises:
        CheckoutError: modules of another tree have been imported already.
    """
    wanted = Path(root).resolve() if root else reconstruction(fork)
    held = sys.modules.get("decalib" if root else PACKAGES[fork])
    if held is not None and list(held.__path__) != [str(wanted / "decalib")]:
        raise CheckoutError(
            f"this process already holds {held.__name__} of {held.__path__[0]}; {wanted} needs a process of its own"
        )
    if root:
        _chosen[fork] = wanted
    else:
        _chosen.pop(fork, None)


def import_from(fork: Fork, module: str) -> Any:
    """Import `decalib.<module>` of the tree in force; global switches it sets on import are put back.

    Raises:
        CheckoutError: the module came from elsewhere, as a package of that name on the path could make it.
    """
    root = _chosen.get(fork)
    package = "decalib" if root else PACKAGES[fork]
    with kept_switches():
        if package not in sys.modules:
            _load_package(package, (root or reconstruction(fork)) / "decalib", fork, checkout=root is not None)
        with _without_byte_code() if root else contextlib.nullcontext():
            found = importlib.import_module(f"{package}.{module}")
    if root:
        _refuse_strangers(root)
    return found


def renderer_of(fork: Fork) -> Any:
    """The module of the renderer that the fork's DECA uses: renderer3 or renderer."""
    return importlib.import_module(import_from(fork, fork.deca).SRenderY.__module__)


def config_file(fork: Fork) -> Path:
    """The run configuration of the tree in force; the reconstruction's where a checkout has none."""
    own = _chosen.get(fork, reconstruction(fork)) / fork.yml
    return own if own.exists() else reconstruction(fork) / fork.yml


@contextlib.contextmanager
def kept_switches() -> Iterator[None]:
    """Put back cudnn's switches, which legacy sets on import and in constructors."""
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before


def _load_package(name: str, folder: Path, fork: Fork, *, checkout: bool) -> None:
    """Make the package from its folder, not by searching the path, where a like-named one could win."""
    start = folder / "__init__.py"
    package = types.ModuleType(name)
    package.__path__ = [str(folder)]
    if start.exists():
        spec = importlib.util.spec_from_file_location(name, start, submodule_search_locations=[str(folder)])
        assert spec is not None
        assert spec.loader is not None
        package = importlib.util.module_from_spec(spec)
    if checkout or fork is COARSE:
        sys.path.insert(0, str(folder.parent))  # modules beside decalib
    if checkout:
        for alias in NUMPY_ALIASES:
            if alias not in vars(np):  # hasattr would warn
                setattr(np, alias, getattr(builtins, alias))
    sys.modules[name] = package
    if start.exists():
        assert package.__spec__ is not None
        assert package.__spec__.loader is not None
        package.__spec__.loader.exec_module(package)


@contextlib.contextmanager
def _without_byte_code() -> Iterator[None]:
    """The lab's folder stays as it is."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def _refuse_strangers(root: Path) -> None:
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.split(".")[0] == "decalib" and file and not Path(file).is_relative_to(root):
            raise CheckoutError(f"{name} was imported from {file}, not from the checkout at {root}")
