"""The runners of a build, one for each kind and processor, kept in its folder."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

from unfoldc.runtime.artifact_folder import Build
from unfoldc.runtime.build_subfolder import BuildSubfolder
from unfoldc.runtime.products import device_objects, weights_file
from unfoldc.runtime.programs import REMOTE
from unfoldc.targets.boards import find_target
from unfoldc.targets.remote.board_runner import board_of, build_board_runner, firmware_path
from unfoldc.targets.remote.runner_build import Kind, build_runner, runner_path


class Runners:
    """Builds the runners of `build` when they are asked for; a file that is there already is taken.

    `given` are those that were asked for so far.
    """

    def __init__(self, build: Build, progress: Callable[[str], None]) -> None:
        self._build, self._progress = build, progress
        self._folder = BuildSubfolder(build.folder, REMOTE)
        self.given: set[Path] = set()

    def is_built(self, kind: Kind, cpu: str = "") -> bool:
        """Whether that runner is there already."""
        return self._path(kind, cpu).is_file()

    def __call__(self, kind: Kind, cpu: str = "") -> Path:
        """The runner for a processor ("": the target's usual one). Raises TargetError and ToolError."""
        artifact, target, folder = self._build.artifact, find_target(self._build.target), self._folder.path
        board = board_of(target) if kind == "firmware" else None
        path = self._path(kind, cpu)
        self.given.add(path)
        if path.is_file():  # before TVM is asked for its objects
            return path
        with tempfile.TemporaryDirectory(prefix="unfoldc-") as scratch, contextlib.ExitStack() as stack:
            flags = stack.enter_context(weights_file(artifact, Path(scratch)))
            objects = device_objects(artifact, Path(scratch), target)
            say = self._progress
            if board is not None:
                return build_board_runner(artifact, target, board, folder, objects=objects, progress=say)
            return build_runner(
                artifact, target, folder, kind=kind, cpu=cpu, objects=objects, flags=flags, progress=say
            )

    def _path(self, kind: Kind, cpu: str) -> Path:
        artifact, target, folder = self._build.artifact, find_target(self._build.target), self._folder.path
        board = board_of(target) if kind == "firmware" else None
        if board is not None:
            return firmware_path(artifact, target, board, folder)
        return runner_path(artifact, target, folder, kind, cpu)
