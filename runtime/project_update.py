"""Puts a build into a folder in which people work: what they added stays, what they changed stays and is named."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unfoldc.errors import InputError
from unfoldc.runtime.artifact_folder import INDEX
from unfoldc.runtime.programs import drop_programs
from unfoldc.runtime.stored_files import digest, inside

PROJECT = "project"
"""Key of the index: the files that loading does not look at, with the SHA-256 that they were written with."""
_EARLIER = "earlier"


def holds_project(folder: Path) -> bool:
    """Whether a project was written there."""
    return (folder / INDEX).is_file() and PROJECT in _index(folder)


def update_folder(staged: Path, folder: Path) -> tuple[str, ...]:
    """Move the files of a complete build at `staged` to `folder`, the index among them.

    Files of an earlier build there are replaced or removed if they are as they were written. Those of a project that
    were changed since are left alone; their names are returned. Programs that were built there for a device later on
    are removed: they hold the solver as it was. Nothing else is touched. Raises InputError, with
    nothing done, where a file that loading needs was changed, or a file of somebody else has a name that is needed.
    An interruption leaves a folder that a repetition completes.
    """
    new, old = _index(staged), _index(folder) if (folder / INDEX).is_file() else {}
    if PROJECT in old:
        new.setdefault(PROJECT, {})  # so that those who replace what follows also leave other files alone
    mine, before = _digests(new), _digests(old)
    place, kept, foreign = [], [], []
    for name, wanted in mine.items():
        path = inside(folder, name)
        if not os.path.lexists(path):
            place.append(name)
            continue
        found = digest(path) if path.is_file() else ""
        if found in wanted:
            continue
        if found in before.get(name, ()):
            place.append(name)
        elif name in before and name in new.get(PROJECT, {}) and path.is_file():
            kept.append(name)
        else:
            foreign.append(name)
    foreign += [name for name in place if _blocked(folder, name)]
    if foreign:
        raise InputError(
            str(folder),
            f"files are in the way which unfoldc did not write, or not as they are: {', '.join(sorted(foreign))}",
            "generated sources as they were written, beside files of your own",
            "Move them away, or choose another folder.",
        )
    gone = [n for n, known in before.items() if n not in mine and _is(folder, n, known)]
    _write(folder, staged, {**new, _EARLIER: {name: sorted(known) for name, known in before.items()}})
    for name in place:
        target = inside(folder, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(staged / name, target)
    for name in gone:
        path = inside(folder, name)
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # others' files are in it
            path.parent.rmdir()
    drop_programs(folder, mine)
    _write(folder, staged, new)
    return tuple(sorted(kept))


def _index(folder: Path) -> dict[str, Any]:
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        for name in _digests(index):
            inside(folder, name)
    except (ValueError, RecursionError, TypeError, AttributeError) as error:
        found, allowed = f"its {INDEX} is damaged ({error})", "a new folder, or an earlier build"
        raise InputError(str(folder), found, allowed, "Choose another folder.") from None
    return dict(index)


def _digests(index: Mapping[str, Any]) -> dict[str, set[str]]:
    """Name -> the SHA-256 sums that a file of ours may have."""
    found: dict[str, set[str]] = {}
    for name, known in [*index.get("files", {}).items(), *index.get(PROJECT, {}).items()]:
        found.setdefault(name, set()).add(known)
    for name, several in index.get(_EARLIER, {}).items():
        found.setdefault(name, set()).update(several)
    return found


def _is(folder: Path, name: str, known: set[str]) -> bool:
    path = inside(folder, name)
    return path.is_file() and digest(path) in known


def _blocked(folder: Path, name: str) -> bool:
    """Whether something that is no folder stands where a folder has to be."""
    parents = Path(name).parents
    return any(os.path.lexists(folder / p) and not (folder / p).is_dir() for p in parents)


def _write(folder: Path, staged: Path, index: Mapping[str, Any]) -> None:
    partial = staged / f".{INDEX}"
    partial.write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, folder / INDEX)
