"""A folder for what is made of a build later on: in the build's own folder, where that may be written to."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


class BuildSubfolder:
    """The folder `name` in the folder of a build, or a temporary one, which is removed with this object."""

    def __init__(self, folder: Path, name: str) -> None:
        self._kept = folder / name
        self._own: tempfile.TemporaryDirectory[str] | None = None

    @property
    def path(self) -> Path:
        """The folder, which is there."""
        with contextlib.suppress(OSError):
            self._kept.mkdir(exist_ok=True)
        if os.access(self._kept, os.W_OK | os.X_OK):
            return self._kept
        if self._own is None:
            self._own = tempfile.TemporaryDirectory(prefix="unfoldc-")
        return Path(self._own.name)
