"""Turns the sources of an artifact into what an engine runs: machine code for the host, firmware for a device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from unfoldc.kernels.artifact import Artifact
from unfoldc.runtime.artifact_folder import digest


def make_product(artifact: Artifact, target: str, kind: str, folder: Path) -> str:
    """Build in `folder`; the name of the product there, "" where the back end needs none.

    Raises ToolError where a tool is missing or fails, TargetError where the program does not fit the device.
    """
    if kind == "emulated":
        return _firmware(artifact, target, folder)
    if artifact.backend == "c":
        from unfoldc.targets.host_build import build_library

        library = build_library(artifact, folder)
    elif artifact.backend == "tvm":
        from unfoldc.targets.tvm_build import build_tvm_library

        library = build_tvm_library(artifact, folder)
    elif artifact.backend == "numba":
        from unfoldc.runtime.numba_build import build_object

        library = build_object(artifact, folder)
    else:
        return ""
    # The loader knows libraries by path: a new build at an old place must have a new name, or the old one would be run.
    final = folder / f"{artifact.symbol}-{digest(library)[:12]}{library.suffix}"
    library.replace(final)
    return final.name


def with_notes(artifact: Artifact, target: str, kind: str, product: Path) -> Artifact:
    """The artifact with what its product says: on a device, the most stack that a call of the solver takes."""
    if kind != "emulated":
        return artifact
    from unfoldc.targets.boards import find_target
    from unfoldc.targets.firmware import STACK_NOTE
    from unfoldc.targets.firmware_file import read_firmware

    bound = read_firmware(product, artifact.symbol, find_target(target)).stack_bound_bytes
    return replace(artifact, notes={**artifact.notes, STACK_NOTE: bound})


def _firmware(artifact: Artifact, target: str, folder: Path) -> str:
    from unfoldc.targets.boards import find_target
    from unfoldc.targets.firmware import build_firmware

    return build_firmware(artifact, find_target(target), folder).elf.name
