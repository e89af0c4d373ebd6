"""Folders that are written aside, and are there under their names as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from unfoldc.errors import InputError


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Makes the folder that `folder` is to be in. InputError names `folder` where the system does not let us write."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if isinstance(error, shutil.Error):  # of a tree, which collects (from, to, why) for each file
            reason = error.args[0][0][2].rpartition("] ")[2].partition(":")[0]
        found, allowed = f"it cannot be written ({reason})", "a folder with room that you may write to"
        raise InputError(str(folder), found, allowed, "Choose another, or make room.") from error


@contextlib.contextmanager
def aside(parent: Path) -> Iterator[Path]:
    """A new folder in `parent` to write into; whatever is left of it at the end is removed."""
    partial = parent / f".partial-{os.getpid()}-{secrets.token_hex(6)}"
    partial.mkdir()
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def replace_folder(new: Path, final: Path) -> None:
    """Rename `new` to `final`, taking away what was there; if that fails the old folder is put back."""
    if not final.exists():
        new.rename(final)
        return
    with aside(final.parent) as bin_folder:
        old = bin_folder / "old"
        final.rename(old)
        try:
            new.rename(final)
        except OSError:
            old.rename(final)
            raise
