"""The back ends by name: where each can run, what it needs, and the engine that executes its programs."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
        Backend("onnxruntime", ("onnx", "onnxruntime"), ("host",), True, "ONNX Runtime, any operator, any provider"),
    )
}
_AUTOMATIC = {"host": ("c", "numba", "reference"), "emulated": ("c",)}
# Runs what the compilers refuse.
_FALLBACK = {"host": "onnxruntime"}
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


def fallback(kind: str) -> str:
    """The back end for models that the compilers refuse; "" where none is installed that reaches such a target."""
    name = _FALLBACK.get(kind, "")
    return name if name and not missing(name) else ""


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


def run_options(backend: str, providers: Sequence[str] | None, threads: int | None) -> dict[str, Any]:
    """The options of ONNX Runtime that were given, checked; raises InputError for any other back end."""
    given: dict[str, Any] = {}
    if providers is not None:
        given["providers"] = [providers] if isinstance(providers, str) else list(providers)
    if threads is not None:
        given["threads"] = threads
    if given and backend != "onnxruntime":
        found, allowed = f"given for backend {backend}", "backend onnxruntime with it, or another without"
        raise InputError(next(iter(given)), found, allowed, "Leave it out, or choose backend onnxruntime.")
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise InputError("threads", repr(threads), "1 or more", "Change the option.")
    if providers is not None:
        from unfoldc.runtime.onnxruntime_sessions import checked_providers

        checked_providers(given["providers"])
    return given


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
    if artifact.backend == "onnxruntime":
        from unfoldc.runtime.engine_onnxruntime import OnnxruntimeEngine

        return OnnxruntimeEngine(artifact, build.options)
    from unfoldc.runtime.engine_reference import ReferenceEngine

    return ReferenceEngine(artifact, build.folder / build.model, build.options)


def _installed(name: str) -> bool:
    if name in sys.modules:
        return sys.modules[name] is not None
    return importlib.util.find_spec(name) is not None
