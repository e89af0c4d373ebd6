"""The back ends by name: where each can run, what it needs, and the engine that executes its programs."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unfoldc.errors import InputError, ToolError

if TYPE_CHECKING:
    from unfoldc.runtime.artifact_folder import Build
    from unfoldc.runtime.engine import Engine


@dataclass(frozen=True)
class Backend:
    """`needs`: packages it compiles with. `kinds`: of target that it runs on. `stamps`: it times each iteration."""

    name: str
    needs: tuple[str, ...]
    kinds: tuple[str, ...]
    stamps: bool
    summary: str


BACKENDS = {
    b.name: b
    for b in (
        Backend("c", ("onnx", "ziglang"), ("host", "emulated"), True, "C99, compiled by zig"),
        Backend("numba", ("onnx", "numba"), ("host",), True, "Python source, compiled by Numba"),
        Backend("tvm", ("onnx", "tvm", "ziglang"), ("host",), True, "TVM's TIR, compiled by LLVM"),
        Backend("reference", ("onnx",), ("host",), False, "NumPy, operation by operation; slow"),
    )
}
_AUTOMATIC = {"host": ("c", "numba", "reference"), "emulated": ("c",)}
_DISTRIBUTIONS = {"tvm": "apache-tvm"}


def has_stamps(backend: str) -> bool:
    """Whether programs of this back end stamp each iteration."""
    return BACKENDS[backend].stamps


def missing(backend: str) -> list[str]:
    """Names, as pip knows them, of the packages this back end needs and does not find."""
    return [_DISTRIBUTIONS.get(name, name) for name in BACKENDS[backend].needs if not _installed(name)]


def choose(backend: str, target: str, kind: str) -> tuple[str, str]:
    """The back end to use and the reason. "auto" takes the first whose packages are installed.

    Raises InputError for an unknown back end or one that cannot reach the target, ToolError for missing packages.
    """
    automatic = _AUTOMATIC[kind]
    if backend != "auto":
        return _asked_for(backend, target, kind)
    skipped: list[str] = []
    for name in automatic:
        lacking = missing(name)
        if not lacking:
            why = (
                f"auto: {name}, the fastest on {target}"
                if not skipped
                else f"auto: {name}, because {'; '.join(skipped)}"
            )
            return name, why
        skipped.append(f"{name} needs {' and '.join(lacking)}, which is not installed")
    raise ToolError(
        f"target {target}",
        "; ".join(skipped),
        f"one of the back ends {', '.join(automatic)}",
        "Install: pip install ziglang.",
    )


def _asked_for(backend: str, target: str, kind: str) -> tuple[str, str]:
    usable = [b.name for b in BACKENDS.values() if kind in b.kinds]
    if backend not in usable:
        found = "cannot run there" if backend in BACKENDS else "no such back end"
        raise InputError(
            f"backend {backend} on target {target}", found, ", ".join(["auto", *usable]), "Choose one of these."
        )
    lacking = missing(backend)
    if lacking:
        raise ToolError(
            f"backend {backend}", f"{' and '.join(lacking)} not installed", "a Python environment that has it",
            f"Install: pip install {' '.join(lacking)}; or choose backend auto.",
        )  # fmt: skip
    return backend, f"backend {backend} was asked for"


def open_engine(build: Build) -> Engine:
    """The engine that executes this build."""
    artifact = build.artifact
    if build.kind == "emulated":
        from unfoldc.runtime.engine_emulator import EmulatorEngine

        return EmulatorEngine(artifact, build.target, build.folder / build.product)
    if artifact.backend in ("c", "tvm"):
        from unfoldc.runtime.engine_library import LibraryEngine

        return LibraryEngine(artifact, build.folder / build.product)
    if artifact.backend == "numba":
        from unfoldc.runtime.engine_numba import NumbaEngine

        return NumbaEngine(artifact, build.folder / build.product)
    from unfoldc.runtime.engine_reference import ReferenceEngine

    return ReferenceEngine(artifact, build.folder / build.model, build.options)


def _installed(name: str) -> bool:
    if name in sys.modules:
        return sys.modules[name] is not None
    return importlib.util.find_spec(name) is not None
