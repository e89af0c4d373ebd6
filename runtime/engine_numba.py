"""Runs a solver that Numba compiled to an object file; llvmlite loads it, Numba itself is not needed."""

from __future__ import annotations

import ctypes
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unfoldc.errors import ToolError
from unfoldc.kernels.artifact import Artifact
from unfoldc.runtime.engine_library import LibraryEngine, Workspace, address, aligned
from unfoldc.runtime.numba_build import new_machine

_MAGIC = (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\x64\x86", b"\x64\xaa")  # ELF, Mach-O, COFF for x86-64 and aarch64


class NumbaEngine(LibraryEngine):
    """Machine code in an object file, called as a shared library is; the weights' addresses stand in each workspace.

    Raises ToolError where llvmlite is missing or the file cannot be loaded.
    """

    def __init__(self, artifact: Artifact, object_file: Path) -> None:
        facts = json.loads(artifact.sources[f"{artifact.symbol}_layout.json"])
        self._place = int(facts["addresses"])
        self._weights = [_gather(artifact, *group) for group in facts["weights"]]
        self._code = _load(object_file)  # the machine code lives as long as this
        kind = ctypes.CFUNCTYPE(None)
        names = [f"{artifact.symbol}_host_{part}" for part in ("call", "bound", "profile")]
        found = [self._code.get_function_address(name) for name in names]
        if not all(found):
            raise _unusable(object_file, f"it lacks one of {', '.join(names)}")
        self._bind(artifact, int(facts["workspace_bytes"]), *map(kind, found))

    def _new_workspace(self) -> Workspace:
        workspace = super()._new_workspace()
        places = (ctypes.c_int64 * len(self._weights)).from_address(workspace.address + self._place)
        places[:] = [address(array) for array in self._weights]
        return workspace


def _load(path: Path) -> Any:
    try:
        binding = importlib.import_module("llvmlite.binding")
    except ImportError as error:
        raise ToolError(
            "backend numba",
            f"llvmlite cannot be imported ({error})",
            "llvmlite, which comes with Numba",
            "Install it: pip install numba.",
        ) from None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unusable(path, str(error)) from None
    if not content.startswith(_MAGIC):  # LLVM would end the process; damage further in does not pass the build's index
        raise _unusable(path, "it is no object file")
    machine_code = binding.ObjectFileRef.from_data(content)
    code = binding.create_mcjit_compiler(binding.parse_assembly(""), new_machine(binding))
    code.add_object_file(machine_code)
    code.finalize_object()
    return code


def _unusable(path: Path, reason: str) -> ToolError:
    return ToolError(
        str(path),
        f"cannot be loaded ({reason})",
        "an object file built by unfoldc for this machine",
        "Compile the model again on this machine.",
    )


def _gather(artifact: Artifact, dtype: str, elements: int, entries: Mapping[str, int]) -> np.ndarray:
    """All constants of one type in one aligned array."""
    size = elements * np.dtype(dtype).itemsize
    start, memory = aligned(size)
    offset = start - address(memory)
    array = memory[offset : offset + size].view(dtype)
    for name, first in entries.items():
        values = np.asarray(artifact.weights[name], dtype).ravel()
        array[first : first + values.size] = values
    return array
