"""From an ONNX file to a solver that can be called: compile, build, cache, open."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unfoldc.cache import cache_folder, cache_key, prune, touch
from unfoldc.dimensions import check_dimensions
from unfoldc.errors import ModelError, UnfoldcError
from unfoldc.external_data import external_digests
from unfoldc.fastest_build import build_fastest
from unfoldc.one_build import build_one, compiled
from unfoldc.request import (
    Progress,
    Request,
    check_flags,
    checked_symbol,
    checked_tuning,
    import_options,
    read_model,
    silent,
)
from unfoldc.runtime.artifact_folder import Build, read_build
from unfoldc.runtime.backends import checked_threads, choose, fallback, measures, run_options
from unfoldc.runtime.folders import aside, replace_folder
from unfoldc.runtime.load import load, open_build
from unfoldc.runtime.solver import Solver
from unfoldc.runtime.stored_files import digest
from unfoldc.targets import Target, find_target
from unfoldc.targets.cuda.packages import code_for
from unfoldc.targets.qemu import find_machine
from unfoldc.targets.remote.address import parse_address
from unfoldc.tuning import is_enough, tuned

__all__ = ["compile", "load"]


def compile(
    path: str | Path,
    target: str = "host",
    backend: str = "auto",
    *,
    batch: int | str | None = None,
    dimensions: Mapping[str, int] | None = None,
    symbol: str = "solver",
    cache: bool = True,
    progress: Progress | None = None,
    providers: Sequence[str] | None = None,
    threads: int | None = None,
    sparse: bool = False,
    allow_tf32: bool = False,
    on: str | None = None,
    tune: float | None = None,
    tune_log: str | Path | None = None,
) -> Solver:
    """Compile an ONNX file for a target and open it as a `Solver`.

    target: as `unfoldc targets` lists them; "cuda" is an NVIDIA GPU, which backend "cuda" implies (docs/gpu.md).
    backend: "auto" takes C where zig is installed, else Numba, else NumPy. On the host it measures C against Numba and
    TVM for 0.3 s, where these take little time, and keeps the fastest whose answers are right (the environment variable
    UNFOLDC_AUTO=first does without); a sound model that the compiler refuses goes to ONNX Runtime, where installed.
    `solver.backend_reason` and `solver.notes` say what was found.
    batch: a number fixes the model's dynamic leading axis; None or "dynamic" leaves it to each call. dimensions binds
    other dynamic lengths of the inputs by name. symbol prefixes the functions of generated C. cache: keep the result in
    `$XDG_CACHE_HOME/unfoldc` and take it from there. progress is called with a line of text at each step.
    threads: a batch is split over so many (1) where its first calls show that it pays, with the same bits as on one;
    for backend "onnxruntime", threads per operation. providers: that back end's, in the order of preference.
    sparse: C code that skips weights which zeros of an iterate would meet; the time then depends on the data.
    allow_tf32: products of float32 matrices on a GPU may round their factors to 10 bits (docs/gpu.md).
    on: where it runs instead: "ssh://user@host", "serial:/dev/ttyACM0", "tvm-rpc://host:port", "local"
    (docs/remote.md), or "qemu", a second opinion (docs/emulators.md).
    tune: seconds for which other schedules are measured on the solver's device; the fastest is kept and remembered.
    tune_log: a file of JSON lines with all measurements, perhaps somebody else's, read and added to (docs/tuning.md).

    Raises ModelError for the model, InputError for an option, TargetError for a device that is too small, ToolError.
    """
    target = "cuda" if (target, backend) == ("host", "cuda") else target
    found, chosen, reason = _chosen(target, backend, on)
    check_flags(chosen, sparse=sparse, allow_tf32=allow_tf32)
    scheduled = f"{chosen} on {target}" if (chosen, found.kind) == ("tvm", "gpu") else chosen
    seconds, log = checked_tuning(tune, tune_log, scheduled, sparse, on)
    free = backend == "auto" and not sparse and on is None
    request = Request(
        Path(path), read_model(Path(path)), found, target, chosen, import_options(batch, dimensions),
        checked_symbol(symbol), progress or silent, run_options(chosen, providers, threads),
        threads=checked_threads(chosen, found.kind, threads), measure=free and measures(backend, chosen, found.kind),
        sparse=sparse, allow_tf32=allow_tf32, on=on, tune=seconds, tune_log=log,
    )  # fmt: skip
    try:
        return _obtain(request, reason, cache)
    except ModelError as refusal:
        other = fallback(found.kind) if free else ""
        if not other:
            raise
        again = replace(request, backend=other, run=run_options(other, providers, threads))
        return _instead(again, chosen, refusal, cache)


def _chosen(target: str, backend: str, on: str | None) -> tuple[Target, str, str]:
    """The target, the back end, and why this one; what cannot be is refused before anything is compiled."""
    found = find_target(target)
    if on is not None and parse_address(on).scheme == "qemu":
        find_machine(found)
    elsewhere = on is not None and found.kind == "host" and backend == "auto"
    return found, *choose("c" if elsewhere else backend, target, found.kind)


def _instead(request: Request, refused: str, refusal: ModelError, cache: bool) -> Solver:
    """The solver of another back end than the one that has refused the model; where it refuses, too, that refusal."""
    untuned = ", and is not tuned" if request.tune else ""
    note = f"{request.backend}, because {refused} refuses the model ({refusal.where}: {refusal.found}){untuned}"
    try:
        return _obtain(replace(request, note=note, measure=False, tune=0.0, tune_log=None), f"auto: {note}", cache)
    except UnfoldcError:  # it is not the compiler that lacks something: its message says more
        raise refusal from None


def _obtain(request: Request, reason: str, cache: bool) -> Solver:
    """The solver, from the cache or compiled."""
    store = cache_folder() if cache else None
    how: dict[str, Any] = {"threads": request.threads, "on": request.on, "progress": request.progress}
    if store is None:
        folder = Path(tempfile.mkdtemp(prefix="unfoldc-"))
        try:
            made = _compile_into(request, folder)
            found = _reason(made, reason)
            return open_build(made, backend_reason=found, temporary=True, **how)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    entry = store / _key(request)
    build = _cached(entry, request.path)
    if build is not None and (not request.tune or is_enough(request, build)):
        try:
            return open_build(build, backend_reason=_reason(build, reason), **how)
        except (UnfoldcError, ValueError):
            pass  # a file that is read now only is damaged: compile again
    with aside(store) as partial:
        made = _compile_into(request, partial, build)
        if read_model(request.path) == request.model:
            _publish(partial, entry)
            prune(store)
            build = read_build(entry, check=False)
        else:  # somebody wrote to the model meanwhile: what was compiled must not be found under the old content
            raise ModelError(
                str(request.path),
                "the file changed while it was compiled",
                "a file at rest",
                f"Compile again ({made.target}).",
            )
    return open_build(build, backend_reason=_reason(build, reason), **how)


def _reason(build: Build, otherwise: str) -> str:
    notes = build.artifact.notes
    choice = notes.get("choice")
    return "; ".join(filter(None, [f"auto: {choice}" if choice else otherwise, notes.get("tuning")]))


def _key(request: Request) -> str:
    """Name of the cache entry: everything that the result depends on."""
    return cache_key(
        request.model,
        {
            **request.options,
            "target": request.target_name,
            "spec": repr(request.target.spec),
            "backend": request.backend,
            "run": request.run,
            "note": request.note,
            "measure": request.measure,
            "sparse": request.sparse,
            "allow_tf32": request.allow_tf32,
            "symbol": request.symbol,
            "gpu": code_for() if request.target.kind == "gpu" else "",
            "tuned": [request.on] if request.tune else [],
            "external": external_digests(request.path, request.model),
        },
    )


def _cached(entry: Path, path: Path) -> Build | None:
    """The build in a cache entry, if it is whole and the model's external data are still those it was made from."""
    try:
        build = read_build(entry, check=False)
        for name, expected in build.external.items():
            if digest((path.parent / name).resolve()) != expected:
                return None
    except (UnfoldcError, OSError):
        return None
    touch(entry)
    return build


def _publish(partial: Path, entry: Path) -> None:
    try:
        replace_folder(partial, entry)
    except OSError:
        if not entry.is_dir():  # else another process was faster, with the same result
            raise


def _compile_into(request: Request, folder: Path, earlier: Build | None = None) -> Build:
    """The build, in the folder; `earlier`: one that was tuned for a shorter time."""
    request.progress("compiling the model")
    check_dimensions(request.path, request.options["dimensions"] or ())
    made = build_fastest(request, folder) if request.measure else build_one(request, compiled(request), folder)
    return tuned(request, made, earlier) if request.tune else made
