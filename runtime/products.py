"""Turns the sources of an artifact into what an engine runs: machine code for the host, firmware for a device."""

from __future__ import annotations

import importlib.metadata
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from unfoldc.kernels.artifact import Artifact
from unfoldc.runtime.stored_files import digest
from unfoldc.targets.description import Target

COMPILERS_NOTE = "compilers"
"""Key of `Artifact.notes`: name and version of what made the firmware."""


def make_product(artifact: Artifact, target: str, kind: str, folder: Path) -> str:
    """Build in `folder`; the name of the product there, "" where the back end needs none.

    Raises ToolError where a tool is missing or fails, TargetError where the program does not fit the device.
    """
    if kind == "emulated":
        return _firmware(artifact, target, folder)
    if kind == "gpu":
        return _gpu_code(artifact, folder)
    if artifact.backend == "c":
        from unfoldc.targets.host_build import build_library

        with weights_file(artifact, folder) as flags:
            library = build_library(artifact, folder, flags=flags)
    elif artifact.backend == "tvm":
        from unfoldc.targets.tvm_build import build_tvm_library

        with weights_file(artifact, folder) as flags:
            library = build_tvm_library(artifact, folder, flags=flags)
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
    """The artifact with what its product says: on a device, the most stack that a call takes, and what compiled it."""
    if kind != "emulated":
        return artifact
    from unfoldc.targets.boards import find_target
    from unfoldc.targets.firmware import STACK_NOTE
    from unfoldc.targets.firmware_file import read_firmware

    bound = read_firmware(product, artifact.symbol, find_target(target)).stack_bound_bytes
    tools = ("ziglang", *(("apache-tvm",) if artifact.backend == "tvm" else ()))
    versions = {name: importlib.metadata.version(name) for name in tools}
    return replace(artifact, notes={**artifact.notes, STACK_NOTE: bound, COMPILERS_NOTE: versions})


def weights_as_text(artifact: Artifact) -> dict[str, str]:
    """The file of weights with all numbers in it, where the artifact's own takes them from a binary file."""
    from unfoldc.kernels.printers.c_api.header import HOST_ALIGNMENT
    from unfoldc.kernels.printers.c_api.weights import needs_binary, weights_body

    name = f"{artifact.symbol}_weights.c"
    if name not in artifact.sources or not needs_binary(artifact.sources[name]):
        return {}
    return {name: weights_body(artifact.symbol, artifact.weights, HOST_ALIGNMENT)}


@contextmanager
def weights_file(artifact: Artifact, folder: Path) -> Iterator[tuple[str, ...]]:
    """The binary file of the weights, where the sources ask for it, and the flags with which it is found."""
    from unfoldc.kernels.printers.c_api.header import HOST_ALIGNMENT
    from unfoldc.kernels.printers.c_api.weights import needs_binary, weights_binary

    source = artifact.sources.get(f"{artifact.symbol}_weights.c", "")
    if not needs_binary(source):
        yield ()
        return
    file = folder / f"{artifact.symbol}_weights.bin"
    try:
        with file.open("wb") as stream:
            stream.writelines(weights_binary(artifact.weights, HOST_ALIGNMENT))
        yield "-I", str(folder.resolve())
    finally:
        file.unlink(missing_ok=True)


def device_objects(artifact: Artifact, folder: Path, target: Target) -> list[Path]:
    """What is linked beside the C sources on a device: TVM's objects, made in `folder`; none for other back ends."""
    if artifact.backend != "tvm":
        return []
    from unfoldc.targets.tvm_build import build_objects

    return build_objects(artifact, folder, target.core)


def _gpu_code(artifact: Artifact, folder: Path) -> str:
    from unfoldc.targets.cuda.build import build_cubins
    from unfoldc.targets.cuda.packages import gpus

    found, _ = gpus()
    return build_cubins(artifact, folder, also=[gpu.architecture for gpu in found if gpu.usable]).name


def _firmware(artifact: Artifact, target: str, folder: Path) -> str:
    from unfoldc.targets.boards import find_target
    from unfoldc.targets.firmware import build_firmware

    device = find_target(target)
    with tempfile.TemporaryDirectory(prefix="unfoldc-") as scratch:
        objects = device_objects(artifact, Path(scratch), device)
        return build_firmware(artifact, device, folder, objects=objects).elf.name
