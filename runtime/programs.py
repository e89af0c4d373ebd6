"""Programs for one device, built when it was first used: they lie in a build's folder, but are no part of the build."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection
from pathlib import Path

REMOTE, QEMU = "remote", "qemu"
"""The folders for connected devices and for QEMU's machines."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*-[0-9a-f]{24}\.(?:runner|so|elf)")  # as `digest_of` makes them


def programs_of(engine: object, folder: Path) -> tuple[str, ...]:
    """Names in `folder` of the programs that `engine` runs, such as `remote/solver-0123....elf`."""
    paths: Collection[Path] = getattr(engine, "programs", ())
    return tuple(sorted(p.relative_to(folder).as_posix() for p in paths if p.is_relative_to(folder)))


def drop_programs(folder: Path, keep: Collection[str]) -> None:
    """Remove the programs in `folder` that `keep` does not name, and the folders that are empty then."""
    for name in (REMOTE, QEMU):
        place = folder / name
        for file in sorted(place.glob("*")):
            if _NAME.fullmatch(file.name) and file.is_file() and f"{name}/{file.name}" not in keep:
                file.unlink()
        with contextlib.suppress(OSError):  # it is not there, or not empty
            place.rmdir()
