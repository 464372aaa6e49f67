"""A lab's own checkout of either fork: recognised by its files, known by its content, blamed by line when it fails."""

from __future__ import annotations

import hashlib
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SUFFIXES = (".py", ".yml", ".yaml")
_PACKAGE = "decalib"
# Aliases of builtins until NumPy 1.24, put back while a checkout runs; the forks still use np.int.
NUMPY_ALIASES = ("int", "float", "bool", "object", "str", "complex")
_SHOWN = 16  # characters of a digest that are printed


class CheckoutError(ValueError):
    """A checkout that cannot be audited; the message says what is missing, where it is expected and what to do."""


@dataclass(frozen=True, kw_only=True)
class Fork:
    """One of the lab's two forks, by the names it goes by.

    name: its folder under legacy/. deca, trainer: modules below `decalib`. entries: main files beside `decalib`.
    published: whether the run configuration `yml` was ever published; the reconstruction's stands in for it otherwise.
    """

    name: str
    pipeline: str
    deca: str
    trainer: str
    entries: tuple[str, ...]
    yml: str
    published: bool

    @property
    def files(self) -> tuple[str, ...]:
        """The files that only this fork has."""
        return (f"{_PACKAGE}/{self.deca}.py", f"{_PACKAGE}/{self.trainer}.py", *self.entries)


COARSE = Fork(
    name="AU_sequence",
    pipeline="coarse",
    deca="gatfarec_Video_OnlyExpress",
    trainer="trainer_Video_OnlyExpress",
    entries=("main_AU_video_OnlyE.py", "main_AU_video_OnlyE2.py"),
    yml="configs/release_version/deca_pretrain_video_OnlyE2.yml",
    published=True,
)
DETAIL = Fork(
    name="AUcGAN",
    pipeline="detail",
    deca="deca_EM_AU_enc_dec_origT_aucGAN",
    trainer="trainer_EM_AU_enc_dec_origT_aucGAN",
    entries=("main_train_EM_AU_enc_dec_origT_aucGAN.py",),
    yml="configs/release_version/deca_detail_aucGAN.yml",
    published=False,
)
FORKS = (COARSE, DETAIL)


def fork_of(pipeline: str) -> Fork:
    """The fork that a pipeline audits."""
    return next(fork for fork in FORKS if fork.pipeline == pipeline)


def recognised(root: Path, pipeline: str | None = None) -> Fork:
    """The fork that lies at `root`; `pipeline` is what the user asked for, if anything.

    Raises:
        CheckoutError: no such folder, neither fork, both without a pipeline that chooses, or not the one asked for.
    """
    if not root.is_dir():
        raise CheckoutError(f"--legacy-root {root}: no such folder; name the root of a checkout, which holds decalib/")
    found = [fork for fork in FORKS if any((root / file).is_file() for file in fork.files)]
    if not found:
        raise CheckoutError(_neither(root))
    if pipeline is None and len(found) > 1:
        raise CheckoutError(f"--legacy-root {root} holds both forks; say which: --pipeline coarse or --pipeline detail")
    chosen = [fork for fork in found if pipeline in (None, fork.pipeline)]
    if not chosen:
        fork = found[0]
        raise CheckoutError(
            f"--pipeline {pipeline} contradicts --legacy-root {root}, a checkout of {fork.name} "
            f"(it has {_first_file(root, fork)}): use --pipeline {fork.pipeline}, or leave it out"
        )
    return chosen[0]


def content_digest(root: Path) -> str:
    """SHA-256 over names and bytes of the checkout's sources: .py, .yml and .yaml, wherever the folder lies.

    Hidden folders, byte code, virtual environments and linked folders beside `decalib` are none of its sources.
    """
    digest = hashlib.sha256()
    for path in sorted(_sources(root)):
        name = path.relative_to(root).as_posix()
        digest.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def label(root: str) -> str:
    """A checkout as reports name it: path and content."""
    return f"{root} (content {content_digest(Path(root))[:_SHOWN]})"


@contextmanager
def blamed(root: str) -> Iterator[None]:
    """What the checkout at `root` raises inside, told with the place in its code; no change if `root` is empty.

    Raises:
        CheckoutError: for whatever was raised, also if its code ends the process.
    """
    try:
        yield
    except CheckoutError:
        raise
    except (Exception, SystemExit) as error:  # DECA's constructor calls exit(), which would pass for success
        if not root:
            raise
        raise CheckoutError(f"--legacy-root {root}: {_told(error, Path(root).resolve())}") from error


def _told(error: BaseException, root: Path) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(root)]
    said = f"{type(error).__name__}: {error}"
    if not own:
        frame = frames[-1]
        return (
            f"the audit could not use what the checkout gave it, at {Path(frame.filename).name}:{frame.lineno}: {said}"
        )
    place = f"{Path(own[-1].filename).relative_to(root)}:{own[-1].lineno}"
    return f"the checkout's own code fails at {place} ({own[-1].line}): {said}"


def _neither(root: Path) -> str:
    text = f"--legacy-root {root}: no checkout of either fork. "
    text += "; ".join(f"{fork.name} would have {', '.join(fork.files)}" for fork in FORKS)
    below = [f"{root / fork.name}" for fork in FORKS if any((root / fork.name / file).is_file() for file in fork.files)]
    return text + (f". Did you mean {' or '.join(below)}?" if below else "")


def _first_file(root: Path, fork: Fork) -> str:
    return next(file for file in fork.files if (root / file).is_file())


def _sources(root: Path) -> Iterator[Path]:
    for follow, top in ((False, root), (True, root / _PACKAGE)):
        for folder, below, names in os.walk(top, followlinks=follow):
            here = Path(folder)
            below[:] = [name for name in below if _is_source(here / name) and here / name != root / _PACKAGE]
            yield from (here / name for name in names if Path(name).suffix in _SUFFIXES and (here / name).is_file())


def _is_source(folder: Path) -> bool:
    hidden = folder.name.startswith(".") or folder.name == "__pycache__"
    return not hidden and not (folder / "pyvenv.cfg").exists()
