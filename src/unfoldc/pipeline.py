"""From an ONNX file to a solver that can be called: compile, build, cache, open."""

from __future__ import annotations

import operator
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unfoldc.cache import cache_folder, cache_key, prune, touch
from unfoldc.errors import InputError, ModelError, UnfoldcError
from unfoldc.runtime.artifact_folder import Build, add_note, aside, digest, read_build, replace_folder, write_build
from unfoldc.runtime.backends import (
    checked_threads,
    choose,
    compiles_fast,
    fallback,
    measures,
    open_engine,
    rivals,
    run_options,
)
from unfoldc.runtime.contest import Verdict, contest
from unfoldc.runtime.engine_reference import ReferenceEngine
from unfoldc.runtime.load import load, open_build
from unfoldc.runtime.machine import processor
from unfoldc.runtime.products import make_product, with_notes
from unfoldc.runtime.solver import Solver
from unfoldc.targets import find_target

if TYPE_CHECKING:
    from unfoldc.kernels.artifact import Artifact
    from unfoldc.runtime.engine import Engine
    from unfoldc.targets import Target

__all__ = ["compile", "load"]

_MODEL = "model/model.onnx"  # in a folder of its own: its external data keep their names, which are not ours to choose
_SYMBOL = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
Progress = Callable[[str], None]


@dataclass(frozen=True)
class _Request:
    path: Path
    model: bytes
    target: Target
    target_name: str
    backend: str
    options: dict[str, Any]
    symbol: str
    progress: Progress
    run: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    threads: int = 1
    measure: bool = False  # whether the back end is one of several, the fastest of which is kept
    sparse: bool = False


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
) -> Solver:
    """Compile an ONNX file for a target and open it as a `Solver`.

    backend: "auto" takes C where zig is installed, else Numba, else NumPy. On the host it measures C against Numba,
    where that compiles the model in about a second, and against TVM, where that is imported already: for 0.3 s, on
    random problems, one alone and 64 together where the batch is open. The fastest whose answers are right is kept, and
    the cache remembers it; the environment variable UNFOLDC_AUTO=first does without. `solver.backend_reason` says what
    was found. It falls back to ONNX Runtime, where installed, for a sound model that the compiler refuses
    (`solver.notes`).
    batch: a number fixes the model's dynamic leading axis; None or "dynamic" leaves it to each call. dimensions binds
    other dynamic lengths by name. symbol prefixes the functions of generated C. cache: keep the result in
    `$XDG_CACHE_HOME/unfoldc` and take it from there. progress is called with a line of text at each step.
    threads: a batch is split over so many (1) where its first calls show that it pays, with the same bits as on one;
    for backend "onnxruntime", threads per operation. providers: for that back end, execution providers in the order of
    preference (the processor). sparse: C code that does not read the weights which zeros of an iterate would meet;
    worth it where most are zero, and the time then depends on the data.

    Raises ModelError for a damaged or unsupported model, InputError for a wrong option, TargetError where the program
    does not fit the device, ToolError for a missing tool.
    """
    found = find_target(target)
    chosen, reason = choose(backend, target, found.kind)
    if sparse and chosen != "c":
        raise InputError("compile", f"sparse with back end {chosen!r}", "back end c", "Leave one of them out.")
    request = _Request(
        Path(path),
        _read(Path(path)),
        found,
        target,
        chosen,
        _options(batch, dimensions),
        _symbol(symbol),
        progress or _silent,
        run_options(chosen, providers, threads),
        threads=checked_threads(chosen, found.kind, threads),
        measure=measures(backend, chosen, found.kind) and not sparse,
        sparse=sparse,
    )
    try:
        return _obtain(request, reason, cache)
    except ModelError as refusal:
        other = fallback(found.kind) if backend == "auto" and not sparse else ""
        if not other:
            raise
        note = f"{other}, because {chosen} refuses the model ({refusal.where}: {refusal.found})"
        try:
            again = replace(
                request, backend=other, note=note, measure=False, run=run_options(other, providers, threads)
            )
            return _obtain(again, f"auto: {note}", cache)
        except UnfoldcError:  # it is not the compiler that lacks something: its message says more
            raise refusal from None


def _obtain(request: _Request, reason: str, cache: bool) -> Solver:
    """The solver, from the cache or compiled."""
    store = cache_folder() if cache else None
    if store is None:
        folder = Path(tempfile.mkdtemp(prefix="unfoldc-"))
        try:
            made = _compile_into(request, folder)
            found = _reason(made, reason)
            return open_build(made, backend_reason=found, temporary=True, threads=request.threads)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    entry = store / _key(request)
    build = _cached(entry, request.path)
    if build is not None:
        try:
            return open_build(build, backend_reason=_reason(build, reason), threads=request.threads)
        except (UnfoldcError, ValueError):
            pass  # a file that is read now only is damaged: compile again
    with aside(store) as partial:
        made = _compile_into(request, partial)
        if _read(request.path) == request.model:
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
    return open_build(build, backend_reason=_reason(build, reason), threads=request.threads)


def _reason(build: Build, otherwise: str) -> str:
    choice = build.artifact.notes.get("choice")
    return f"auto: {choice}" if choice else otherwise


def _key(request: _Request) -> str:
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
            "symbol": request.symbol,
            "external": _external_digests(request),
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


def _compile_into(request: _Request, folder: Path) -> Build:
    request.progress("compiling the model")
    if request.measure:
        return _compile_fastest(request, folder)
    return _build(request, _compiled(request), folder)


def _compile_fastest(request: _Request, folder: Path) -> Build:
    """Build with C and with what is worth measuring against it; the fastest that is right ends up in `folder`."""
    from unfoldc.kernels.pipeline import build_artifact, load_program

    model, program = load_program(request.path, **request.options)
    spec, symbol = request.target.spec, request.symbol
    builds = {"c": _build(request, build_artifact(model, program, spec, "c", symbol, host=True), folder)}
    engines: dict[str, Engine] = {}
    left_out = []
    with tempfile.TemporaryDirectory(prefix="unfoldc-") as aside_:
        for name in rivals():
            try:
                artifact = build_artifact(model, program, spec, name, symbol, host=True)
                if not compiles_fast(artifact):
                    left_out.append(f"{name} would take long to compile")
                    continue
                place = Path(aside_) / name
                place.mkdir()
                build = _build(request, artifact, place)
                engines[name] = open_engine(build)
                builds[name] = build
            except Exception as error:  # C is built: whatever a rival's tools raise, it is only a rival
                found = error.found if isinstance(error, UnfoldcError) else f"{type(error).__name__}: {error}"
                left_out.append(f"{name} cannot compile it: {found}")
        try:
            verdict = _verdict(request, builds["c"], engines)
        except Exception as error:  # too little memory for many problems, say: C is right without a measurement
            verdict = Verdict("c", f"c; the others could not be measured ({type(error).__name__}: {error})")
        if verdict.winner != "c":
            _take_over(builds[verdict.winner].folder, folder)
    won = replace(builds[verdict.winner], folder=folder)
    return add_note(won, "choice", "; ".join([verdict.text, *left_out]))


def _verdict(request: _Request, first: Build, rivals: Mapping[str, Engine]) -> Verdict:
    if not rivals:
        return Verdict("c", "c")
    request.progress("measuring the back ends")

    def arbiter() -> Engine:
        return ReferenceEngine(first.artifact, first.folder / first.model, request.options)

    return contest({"c": open_engine(first), **rivals}, first.artifact, arbiter)


def _take_over(folder: Path, destination: Path) -> None:
    for old in destination.iterdir():
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    for new in folder.iterdir():
        shutil.move(new, destination / new.name)


def _build(request: _Request, artifact: Artifact, folder: Path) -> Build:
    names = _external_names(request.path)
    model = _MODEL
    while Path(model).name in names:
        model = f"{Path(model).parent}/_{Path(model).name}"
    copy = folder / model
    copy.parent.mkdir()
    external = _copy_external(names, request.path.parent, copy.parent)
    copy.write_bytes(request.model)
    request.progress(f"building for {request.target_name}")
    product = make_product(artifact, request.target_name, request.target.kind, folder)
    artifact = with_notes(artifact, request.target_name, request.target.kind, folder / product)
    build = Build(
        artifact=artifact, folder=folder, target=request.target_name, kind=request.target.kind,
        product=product, processor=processor(), model=model,
        options={**request.options, **request.run}, external=external,
    )  # fmt: skip
    write_build(build)
    return build


def _compiled(request: _Request) -> Artifact:
    if request.backend == "onnxruntime":
        from unfoldc.kernels.split_onnx.artifact import compile_split
        from unfoldc.runtime.onnxruntime_tools import split_tools

        artifact = compile_split(
            request.path, request.target.spec, request.symbol, **request.options, tools=split_tools()
        )
        return replace(artifact, notes={**artifact.notes, "fallback": request.note})
    from unfoldc.kernels.pipeline import compile_onnx

    return compile_onnx(
        request.path,
        request.target.spec,
        request.backend,
        symbol=request.symbol,
        sparse=request.sparse,
        **request.options,
    )


def _external_digests(request: _Request) -> dict[str, str]:
    """Digests of the external data that lie where they should; the importer says what is wrong with the others."""
    if b"location" not in request.model:  # so most models are found in the cache without onnx
        return {}
    root = request.path.parent.resolve()
    places = {name: (root / name).resolve() for name in _external_names(request.path)}
    return {n: digest(p) for n, p in places.items() if p.is_relative_to(root) and p.is_file()}


def _external_names(path: Path) -> list[str]:
    import onnx
    from google.protobuf.message import DecodeError

    from unfoldc.kernels.reading.onnx_file import external_files

    try:
        return external_files(onnx.load(path, load_external_data=False))
    except (DecodeError, ValueError, OSError):
        return []  # not a model: the importer says so


def _copy_external(names: Sequence[str], root: Path, folder: Path) -> dict[str, str]:
    """Copy the model's external data, which the importer found to lie beside the model; their digests by name."""
    places = {name: folder / os.path.normpath(name) for name in names}  # a name may pass through a missing folder
    for name, place in places.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile((root / name).resolve(), place)
    return {name: digest(place) for name, place in places.items()}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(
            str(path), f"the file cannot be read ({error.strerror})", "a readable .onnx file", "Check the path."
        ) from None


def _options(batch: int | str | None, dimensions: Mapping[str, int] | None) -> dict[str, Any]:
    fixed = (
        None if batch is None or batch == "dynamic" else _length("batch", batch, 'a positive number, "dynamic" or None')
    )
    lengths = {name: _length(f"dimension {name}", n, "a positive number") for name, n in (dimensions or {}).items()}
    return {"batch": fixed, "dimensions": lengths or None}


def _length(name: str, value: Any, allowed: str) -> int:
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise InputError(name, repr(value), allowed, "Change the option.")
    return number


def _symbol(symbol: str) -> str:
    if not isinstance(symbol, str) or not _SYMBOL.fullmatch(symbol):
        raise InputError("symbol", repr(symbol), "a letter, then up to 39 letters, digits or _", "Choose another name.")
    return symbol


def _silent(_: str) -> None:
    return None
