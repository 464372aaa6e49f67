"""The exact procedural head of the runs recorded with one: made by its own generator, kept under .cache.

The generator is code, so only the copy bundled with this repository is ever executed; one that lies beside a folder
of vectors is read to see whether it is the same, and refused if it is not.
"""

from __future__ import annotations

import hashlib
import importlib.util
import tempfile
import warnings
from dataclasses import fields
from pathlib import Path

from safetensors.torch import load_file, save_file

from fixtures.atomic import replacing
from modern.assets import HeadAssets, head_from_arrays, load_head
from parity.conform_material import Material
from parity.coverage import ConformError
from parity.files import CACHE, ROOT

GENERATOR = ROOT / "fixtures" / "conformance" / "head_generator.py"
GENERATOR_SHA256 = "a41da5375fab9c717d15cb9b931036d8727ce301141c6b860c183d05993d418b"


def recorded_head(material: Material) -> HeadAssets:
    """The head of a folder of vectors: its own `assets/` in the original file formats, or the generator's.

    Raises:
        ConformError: if the folder brings another generator than the bundled one, or the bundled one was changed.
        ValueError: if the folder's own assets are unusable.
    """
    if (own := material.folder / "assets").is_dir():
        return load_head(own)
    for path in (material.folder / GENERATOR.name, material.folder.resolve().parent / GENERATOR.name, GENERATOR):
        if path.exists() and (found := hashlib.sha256(path.read_bytes()).hexdigest()) != GENERATOR_SHA256:
            raise ConformError(
                f"{path} is not the generator this repository knows (sha256 {found[:12]}, expected "
                f"{GENERATOR_SHA256[:12]}) and is not executed; put the head's files into {own} instead"
            )
    return _cached(material.head_seed)


def _cached(seed: int) -> HeadAssets:
    path = CACHE / "heads" / f"{GENERATOR_SHA256[:12]}-{seed}.safetensors"
    if path.exists():
        return head_from_arrays(load_file(path))
    head = _made(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        save_file({field.name: getattr(head, field.name) for field in fields(HeadAssets)}, part)
    return head


def _made(seed: int) -> HeadAssets:
    """Run the generator (half a minute); its files are read back as any head's are."""
    spec = importlib.util.spec_from_file_location("recorded_head_generator", GENERATOR)
    if spec is None or spec.loader is None:
        raise ImportError(f"{GENERATOR} cannot be loaded")
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix=".head-") as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # texels outside every island divide by nothing
        generator.write(generator.make(seed), scratch)
        return load_head(Path(scratch))
