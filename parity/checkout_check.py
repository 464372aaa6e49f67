"""A checkout held against the names that the audit uses and those of the specification, before anything is run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from parity.checkout import CheckoutError, Fork, fork_of, label
from parity.checkout_imports import Imports, Lack
from parity.checkout_source import Given, Source, misfit, parameter_names, signature
from parity.legacy_names import ANSWERED, NEEDED, RENDERER, Place
from parity.legacy_specified import SPECIFIED
from parity.schema import Skipped
from parity.wording import listed

_SHOWN = 12
_FILE = "put it there under that name"
_CLASS = "define the class in that file, or import it there"
_CALL = "give it that name and let it take these arguments"
_ATTRIBUTE = "let the class set it under that name"
_BOUND = "import or define it in that module under that name"
_VARIABLE = "the audit reads it when the method returns: call the variable so, which changes no result"
_KEY = "the audit looks values up under it: use that key"
_SETTING = "add the key with its default"


@dataclass(frozen=True)
class Gaps:
    """What a checkout lacks: `needed` stops the audit, `named` is only told."""

    needed: list[Lack] = field(default_factory=list)
    named: list[Lack] = field(default_factory=list)


def admitted(root: Path, pipeline: str, console: Console) -> list[Skipped]:
    """Let the checkout in, or say what it lacks; what the specification names beyond the audit's needs is printed.

    Returns:
        An entry for the report, if there is anything to tell.

    Raises:
        CheckoutError: names that the audit needs are missing or have another signature; the message lists them.
    """
    fork = fork_of(pipeline)
    gaps = examine(root, fork)
    if gaps.needed:
        raise CheckoutError(_refusal(root, fork, gaps.needed))
    console.print(f"legacy: {fork.name} at {label(str(root))}", markup=False, highlight=False, soft_wrap=True)
    told = [f"{lack.place}: {lack.what}" for lack in gaps.named]
    for line in told:
        console.print(f"  not as specified, not needed: {line}", markup=False, highlight=False, soft_wrap=True)
    if not told:
        return []
    return [Skipped(what=f"names of the specification that {root} has otherwise", why="; ".join(told))]


def examine(root: Path, fork: Fork) -> Gaps:
    """All that the checkout of `fork` at `root` lacks, from its text alone."""
    starts = (
        f"decalib/{fork.deca}.py",
        f"decalib/{fork.trainer}.py",
        "decalib/utils/config.py",
        "decalib/utils/util.py",
    )
    imports, gaps = Imports(root, starts, ANSWERED[fork]), Gaps()
    broken = {lack.place.partition(":")[0] for lack in imports.lacks if "cannot read" in lack.what}
    for place in NEEDED[fork]:
        _check_place(place, root, fork, imports, gaps, broken)
    gaps.needed.extend(imports.lacks)
    _check_yml(root, fork, gaps)
    if places := imports.outdated():
        text = "gone from NumPy since 1.24; the audit puts the old alias of the builtin back while the checkout runs"
        gaps.named.append(Lack(listed(places, _SHOWN), text, ""))
    _check_specified(root, fork, imports, gaps)
    return gaps


def _check_place(place: Place, root: Path, fork: Fork, imports: Imports, gaps: Gaps, broken: set[str]) -> None:
    file = _renderer(root, fork, imports) if place.file == RENDERER else place.file
    source = _source(root, file, imports)
    if file in broken:
        return  # said already
    if source is None:
        if not place.found_by_object:
            gaps.needed.append(Lack(file, "no such file", _FILE))
        return
    for lack in _wanting(place, file, source):
        gaps.needed.append(lack)


def _renderer(root: Path, fork: Fork, imports: Imports) -> str:
    """The file of the renderer that DECA uses: its import says whether that is renderer3.py or renderer.py."""
    names = ("renderer3", "renderer") if fork.pipeline == "coarse" else ("renderer", "renderer3")
    files = [f"decalib/utils/{name}.py" for name in names]
    deca = imports.sources.get(f"decalib/{fork.deca}.py")
    taken = imports.taken_from(f"decalib/{fork.deca}.py", "SRenderY") if deca else None
    return taken or next((file for file in files if (root / file).is_file()), files[0])


def _source(root: Path, file: str, imports: Imports) -> Source | None:
    """What a file defines; None if it is not there or cannot be read."""
    if file in imports.sources:
        return imports.sources[file]
    path = root / file
    try:
        return Source(path) if path.is_file() else None
    except SyntaxError:
        return None


def _wanting(place: Place, file: str, source: Source) -> Iterator[Lack]:
    missing_classes: set[str] = set()
    for owner in dict.fromkeys(_owner(name) for name in (*place.calls, *place.attributes, *place.variables)):
        if owner and owner not in source.classes and owner not in source.bound:
            missing_classes.add(owner)
            if not place.found_by_object:
                yield Lack(file, f"class {owner}: not there", _CLASS)
    for call in place.calls:
        if _owner(call) not in missing_classes:
            yield from _call_lack(file, source, call, missing=not place.found_by_object)
    for name in place.attributes:
        owner, _, attribute = name.rpartition(".")
        if owner in source.classes and attribute not in source.attributes(owner):
            yield Lack(file, f"attribute {attribute} of {owner}: never set", _ATTRIBUTE)
    for name in place.bound:
        if name not in source.bound:
            yield Lack(file, f"name {name}: neither defined nor imported", _BOUND)
    for text in place.variables:
        method, *names = text.split()
        if source.function(method) is not None:
            for name in names:
                if name not in source.variables(method):
                    yield Lack(file, f"variable {name} of {method}: not there", _VARIABLE)
    for key in place.keys:
        if key not in source.words:
            yield Lack(file, f"key '{key}': not in that file", _KEY)
    for key in place.settings:
        if key not in source.settings:
            yield Lack(file, f"setting {key}: no default", _SETTING)


def _call_lack(file: str, source: Source, text: str, *, missing: bool) -> Iterator[Lack]:
    given = Given.read(text)
    owner = _owner(text)
    kind = "method" if "." in given.name else "class" if given.name in source.classes or not missing else "function"
    function = source.function(given.name)
    if function is None:
        inherited = owner in source.classes and source.classes[owner].bases and kind == "class"
        if missing and not inherited:
            yield Lack(file, f"{kind} {text}: not there", _CALL)
        return
    if why := misfit(function, given, bound_to_self=bool(owner)):
        yield Lack(file, f"{kind} {text}: has another signature, {signature(function)}: {why}", _CALL)


def _owner(text: str) -> str:
    """The class of `Class.member(...)`, of `Class(...)`, or nothing for a function."""
    name = text.partition("(")[0].split()[0]
    head = name.partition(".")[0]
    return head if "." in name or head[:1].isupper() else ""


def _check_yml(root: Path, fork: Fork, gaps: Gaps) -> None:
    if (root / fork.yml).is_file():
        return
    if fork.published:
        gaps.needed.append(
            Lack(fork.yml, "no such file", "put the run's configuration there; it sets the loss weights")
        )
    else:
        text = "no such file, and none was ever published: the audit runs with the defaults of the checkout's own "
        gaps.named.append(
            Lack(fork.yml, text + "decalib/utils/config.py and legacy/AUcGAN's yml, which changes none", "")
        )


def _check_specified(root: Path, fork: Fork, imports: Imports, gaps: Gaps) -> None:
    told = {lack.place for lack in gaps.needed}
    for file, texts in SPECIFIED[fork].items():
        source = _source(root, file, imports)
        if file in told:
            continue
        if source is None:
            gaps.named.append(Lack(file, "no such file" if not (root / file).is_file() else "cannot be read", ""))
            continue
        for text in texts:
            if what := _unlike(source, text):
                gaps.named.append(Lack(file, what, ""))


def _unlike(source: Source, text: str) -> str:
    """How a name differs from its specification; empty if it does not."""
    name, called, inside = text.rstrip(")").partition("(")
    owner, _, member = name.rpartition(".")
    function = source.function(name)
    if (member not in source.attributes(owner)) if owner else name not in source.bound:
        return f"{text}: not there"
    if not called or function is None:
        return ""
    wanted = [part.strip() for part in inside.split(",") if part.strip()]
    found = parameter_names(function, bound_to_self=bool(owner) or name in source.classes)
    if wanted[-1:] == ["..."]:
        wanted, found = wanted[:-1], found[: len(wanted) - 1]
    return "" if found == wanted else f"{text}: has another signature, {signature(function)}"


def _refusal(root: Path, fork: Fork, lacks: list[Lack]) -> str:
    lines = [
        f"--legacy-root {root} is a checkout of {fork.name} ({fork.pipeline}), but lacks what the audit needs of it "
        f"({len(lacks)} in all); nothing was run. What each line means: docs/legacy_root.md",
        *(f"  {lack.place}: {lack.what}; {lack.remedy}" for lack in lacks),
    ]
    return "\n".join(lines)
