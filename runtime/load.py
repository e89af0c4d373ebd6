"""Opens a build folder as a solver."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from unfoldc.runtime.artifact_folder import Build, read_build, write_build
from unfoldc.runtime.backends import checked_threads, open_engine, run_options
from unfoldc.runtime.engine import Engine
from unfoldc.runtime.machine import processor
from unfoldc.runtime.products import make_product
from unfoldc.runtime.solver import Solver


def open_build(
    build: Build,
    *,
    backend_reason: str = "",
    temporary: bool = False,
    threads: int = 1,
    on: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Solver:
    """The solver of a build, `on` a connected device; a `temporary` folder is removed with the solver."""
    if build.artifact.backend == "onnxruntime":  # its sessions are made with them
        threads = int(build.options.get("threads") or 1)
    engine = open_engine(build, threads, on, progress)
    solver = _kind(engine)(build, engine, backend_reason=backend_reason, threads=threads)
    if temporary:
        weakref.finalize(solver, shutil.rmtree, build.folder, ignore_errors=True)
    return solver


def _kind(engine: Engine) -> type[Solver]:
    """The solver's class: one that knows arrays on a GPU, where it runs on one."""
    if getattr(engine, "gpu", False):
        from unfoldc.runtime.solver_cuda import CudaSolver

        return CudaSolver
    return Solver


def load(
    folder: str | Path,
    *,
    providers: Sequence[str] | None = None,
    threads: int | None = None,
    on: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Solver:
    """The solver in a folder written by `Solver.save`. Runs code from it: load only what you would execute.

    A library that was compiled for another processor is compiled again from its sources, beside the folder's own.
    providers: execution providers of ONNX Runtime, instead of those that a solver of that back end was compiled with.
    threads: as for `unfoldc.compile`; 1, or for ONNX Runtime those that it was compiled with.
    on: as for `unfoldc.compile`; a runner that the address needs is built where the folder does not hold it already.
    Raises ModelError for a missing, truncated or changed file or an unknown format, InputError for a provider that is
    not there.
    """
    build = read_build(Path(folder).absolute())  # weights and sources are read later, from wherever the caller is then
    count = checked_threads(build.artifact.backend, build.kind, threads)
    if providers is not None or threads is not None:
        build = replace(build, options={**build.options, **run_options(build.artifact.backend, providers, threads)})
    reason = f"saved with backend {build.artifact.backend}"
    if on is not None:
        return open_build(build, backend_reason=reason, threads=count, on=on, progress=progress)
    if build.kind != "host" or not build.product or build.processor == processor():
        return open_build(build, backend_reason=reason, threads=count)
    reason = f"{reason}; compiled again for this processor"
    return open_build(_rebuilt(build), backend_reason=reason, temporary=True, threads=count)


def _rebuilt(build: Build) -> Build:
    folder = Path(tempfile.mkdtemp(prefix="unfoldc-"))
    try:
        if build.model:
            shutil.copytree((build.folder / build.model).parent, (folder / build.model).parent)
        product = make_product(build.artifact, build.target, build.kind, folder)
        again = replace(build, folder=folder, product=product, processor=processor())
        write_build(again)
        return read_build(folder, check=False)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
