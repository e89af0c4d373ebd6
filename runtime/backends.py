"""The back ends by name: where each can run, what it needs, and the engine that executes its programs."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unfoldc.errors import InputError, ToolError

if TYPE_CHECKING:
    from unfoldc.kernels.artifact import Artifact
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
        Backend(
            "tvm",
            ("onnx", "tvm", "ziglang"),
            ("host", "emulated", "gpu"),
            True,
            "TVM's TIR, compiled by LLVM; for NVIDIA GPUs by NVRTC",
        ),
        Backend("reference", ("onnx",), ("host",), False, "NumPy, operation by operation; slow"),
        Backend("cuda", ("onnx", "numba_cuda"), ("gpu",), True, "one kernel for NVIDIA GPUs, compiled by numba-cuda"),
        Backend("onnxruntime", ("onnx", "onnxruntime"), ("host",), True, "ONNX Runtime, any operator, any provider"),
    )
}
# Other packages than those that it needs elsewhere: (back end, kind of target) -> packages.
_NEEDS_ON = {("tvm", "gpu"): ("onnx", "tvm", "cuda.bindings")}
_AUTOMATIC = {"host": ("c", "numba", "reference"), "emulated": ("c",), "gpu": ("cuda",)}
# What "auto" measures against C, and the largest source in bytes for which compiling that takes at most a second: Numba
# takes 0.1 s per kB. TVM takes part only where the caller has imported it already, since that alone takes 4 s.
_RIVALS = {"numba": 10_000, "tvm": 120_000}
# Those that let other threads run while they compute.
_THREADED = ("c", "numba", "tvm", "onnxruntime")
# Runs what the compilers refuse.
_FALLBACK = {"host": "onnxruntime"}
_DISTRIBUTIONS = {"tvm": "apache-tvm", "numba_cuda": '"unfoldc[cuda]"', "cuda.bindings": '"unfoldc[cuda]"'}


def has_stamps(backend: str) -> bool:
    """Whether programs of this back end stamp each iteration."""
    return BACKENDS[backend].stamps


def missing(backend: str, kind: str = "") -> list[str]:
    """Names, as pip knows them, of the packages this back end needs, for a kind of target, and does not find."""
    needs = _NEEDS_ON.get((backend, kind), BACKENDS[backend].needs)
    return [_DISTRIBUTIONS.get(name, name) for name in needs if not _installed(name)]


def choose(backend: str, target: str, kind: str) -> tuple[str, str]:
    """The back end to use and the reason. "auto" takes the first whose packages are installed.

    Raises InputError for an unknown back end or one that cannot reach the target, ToolError for missing packages.
    """
    automatic = _AUTOMATIC[kind]
    if backend != "auto":
        return _asked_for(backend, target, kind)
    skipped: list[str] = []
    wanted: list[str] = []
    for name in automatic:
        lacking = missing(name, kind)
        wanted = wanted or lacking
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
        f"a Python environment for {' or '.join(automatic)}",
        f"Install: pip install {' '.join(wanted)}.",
    )


def measures(backend: str, chosen: str, kind: str) -> bool:
    """Whether "auto" measures `chosen` against others: C on the host, unless `UNFOLDC_AUTO` is "first"."""
    return (backend, chosen, kind) == ("auto", "c", "host") and os.environ.get("UNFOLDC_AUTO") != "first"


def rivals() -> list[str]:
    """The back ends that are worth measuring against C in this process."""
    return [name for name in _RIVALS if not missing(name) and (name != "tvm" or name in sys.modules)]


def compiles_fast(artifact: Artifact) -> bool:
    """Whether a rival's artifact is compiled in about a second: not where the graph is unrolled or large."""
    return sum(len(artifact.sources.get(f"{artifact.symbol}.{end}", "")) for end in ("py", "tir")) <= _RIVALS.get(
        artifact.backend, 0
    )


def fallback(kind: str) -> str:
    """The back end for models that the compilers refuse; "" where none is installed that reaches such a target."""
    name = _FALLBACK.get(kind, "")
    return name if name and not missing(name) else ""


def backends_of(kind: str) -> tuple[str, ...]:
    """The names of those that run on such targets."""
    return tuple(b.name for b in BACKENDS.values() if kind in b.kinds)


def _asked_for(backend: str, target: str, kind: str) -> tuple[str, str]:
    usable = backends_of(kind)
    if backend not in usable:
        found = "cannot run there" if backend in BACKENDS else "no such back end"
        raise InputError(
            f"backend {backend} on target {target}", found, ", ".join(["auto", *usable]), "Choose one of these."
        )
    lacking = missing(backend, kind)
    if lacking:
        raise ToolError(
            f"backend {backend}", f"{' and '.join(lacking)} not installed", "a Python environment that has it",
            f"Install: pip install {' '.join(lacking)}; or choose backend auto.",
        )  # fmt: skip
    return backend, f"backend {backend} was asked for"


def run_options(backend: str, providers: Sequence[str] | None, threads: int | None) -> dict[str, Any]:
    """The options that ONNX Runtime's sessions are made with, checked; `checked_threads` has seen the threads.

    Raises InputError for providers given to any other back end.
    """
    given: dict[str, Any] = {}
    if providers is not None:
        given["providers"] = [providers] if isinstance(providers, str) else list(providers)
        if backend != "onnxruntime":
            found, allowed = f"given for backend {backend}", "backend onnxruntime with it, or another without"
            raise InputError("providers", found, allowed, "Leave it out, or choose backend onnxruntime.")
        from unfoldc.runtime.onnxruntime_sessions import checked_providers

        checked_providers(given["providers"])
    if threads is not None and backend == "onnxruntime":
        given["threads"] = threads
    return given


def checked_threads(backend: str, kind: str, threads: int | None) -> int:
    """The number of threads, 1 where none is given.

    Raises InputError for what is no such number, and for more than one where a solver cannot use them.
    """
    if threads is None:
        return 1
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise InputError("threads", repr(threads), "1 or more", "Change the option.")
    if threads > 1 and (kind != "host" or backend not in _THREADED):
        where = "an emulated device" if kind == "emulated" else f"backend {backend}"
        found, allowed = f"{threads} for {where}", f"1, or back end {', '.join(_THREADED)} on the host"
        raise InputError("threads", found, allowed, "Leave it out, or choose one of these back ends.")
    return threads


def open_engine(
    build: Build, threads: int = 1, on: str | None = None, progress: Callable[[str], None] | None = None
) -> Engine:
    """The engine that executes this build, `on` a connected device; with several threads, one that splits batches."""
    if on is not None:
        return _open_elsewhere(build, on, progress)
    engine = _open_engine(build, progress)
    if threads == 1 or build.artifact.backend == "onnxruntime":  # which has threads of its own
        return engine
    from unfoldc.runtime.parallel import ParallelEngine

    return ParallelEngine(engine, build.artifact, threads)


def _open_elsewhere(build: Build, on: str, progress: Callable[[str], None] | None) -> Engine:
    from unfoldc.targets.remote.address import parse_address

    address = parse_address(on)
    if address.scheme == "qemu":
        from unfoldc.runtime.engine_qemu import TIMEOUT, QemuEngine

        return QemuEngine(build, timeout=address.seconds("timeout", TIMEOUT), progress=progress)
    from unfoldc.runtime.engine_remote import RemoteEngine

    return RemoteEngine(build, on, progress)


def _open_engine(build: Build, progress: Callable[[str], None] | None) -> Engine:
    artifact = build.artifact
    if build.kind == "emulated":
        from unfoldc.targets.boards import find_target

        core = find_target(build.target).core
        if core is not None and core.emulator == "qemu":
            from unfoldc.runtime.engine_qemu import QemuEngine

            return QemuEngine(build, progress=progress)
        from unfoldc.runtime.engine_emulator import EmulatorEngine

        return EmulatorEngine(artifact, build.target, build.folder / build.product)
    if build.kind == "gpu":
        return _open_gpu(build)
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


def _open_gpu(build: Build) -> Engine:
    from unfoldc.targets.cuda.packages import in_simulator

    if in_simulator() and build.artifact.backend == "cuda":  # it is Numba's
        from unfoldc.runtime.cuda.simulator import SimulatorEngine

        return SimulatorEngine(build.artifact)
    from unfoldc.runtime.cuda.engine import CudaEngine

    return CudaEngine(build.artifact, build.folder / build.product)


def _installed(name: str) -> bool:
    if name in sys.modules:
        return sys.modules[name] is not None
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is missing
        return False
