"""The digest of every file of the legacy tree, so that nobody changes the record by accident."""

from __future__ import annotations

import argparse
import hashlib

from parity.files import ROOT, write_atomically

LEGACY = ROOT / "legacy"
MANIFEST = LEGACY / "MANIFEST.sha256"


def current() -> dict[str, str]:
    """Path relative to legacy/ -> SHA-256, of every file but the manifest and byte code."""
    return {
        path.relative_to(LEGACY).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(LEGACY.rglob("*"))
        if path.is_file() and path != MANIFEST and "__pycache__" not in path.parts
    }


def recorded() -> dict[str, str]:
    """What the manifest says; empty if there is none."""
    lines = MANIFEST.read_text().splitlines() if MANIFEST.exists() else []
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


def check_manifest() -> list[str]:
    """One entry per altered, missing or extra file; empty if the tree is as recorded."""
    old, new = recorded(), current()
    altered = [f"{name} altered" for name in old.keys() & new.keys() if old[name] != new[name]]
    return sorted(
        altered
        + [f"{name} missing" for name in old.keys() - new.keys()]
        + [f"{name} extra" for name in new.keys() - old.keys()]
    )


def write_manifest() -> None:
    """Record the tree as it is (the format of sha256sum, run in legacy/)."""
    write_atomically(MANIFEST, "".join(f"{digest}  {name}\n" for name, digest in current().items()).encode())


def main() -> int:
    """Check the manifest, or write it with `--write`; exit code 1 if the tree is not as recorded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="record the tree as it is")
    if parser.parse_args().write:
        write_manifest()
    found = check_manifest()
    print("\n".join(found) or f"{len(current())} files as recorded")
    return bool(found)


if __name__ == "__main__":
    raise SystemExit(main())
