"""Writes a solver for a device as a project: what `unfoldc.load` reads, and what an engineer builds and calls."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from unfoldc.errors import InputError, UnfoldcError
from unfoldc.runtime.artifact_folder import ASIDE, INDEX, Build, check_place
from unfoldc.runtime.engine import CountingEngine, Engine
from unfoldc.runtime.folders import aside, replace_folder, writing
from unfoldc.runtime.ports import batched
from unfoldc.runtime.products import COMPILERS_NOTE, weights_as_text
from unfoldc.runtime.project_update import PROJECT, update_folder
from unfoldc.runtime.self_test import draw_self_test
from unfoldc.runtime.stored_files import digest
from unfoldc.targets.boards import find_target
from unfoldc.targets.project import Figures, SelfTest, project_files


@dataclass(frozen=True)
class WrittenProject:
    """Where a project was written, and which of its files were left alone because somebody has changed them."""

    folder: Path
    kept: tuple[str, ...] = ()


def write_project(build: Build, engine: Engine, folder: Path, programs: Sequence[str] = ()) -> WrittenProject:
    """Write the project; `engine` runs the solver, to verify the self-test and to count.

    `programs` are those for a connected device, or for QEMU, that are to come with it; names in the build's folder.

    An earlier build in the folder is replaced, file by file, as `update_folder` says. Raises InputError where the
    folder holds something else or cannot be written, or a symbol's sources have the name of another file.
    """
    check_place(folder)
    device = find_target(build.target)
    test = draw_self_test(build, engine)
    figures = _figures(build, engine, test)
    kept: tuple[str, ...] = ()
    with writing(folder), aside(folder if folder.exists() else folder.parent) as staged:
        index = _stage_build(build, staged)
        objects = _stage_objects(build, staged)
        texts = project_files(build.artifact, device, test, figures, _version(), objects)
        clash = sorted(set(texts) & set(index["files"]))
        if clash:
            raise InputError(
                f"symbol {build.artifact.symbol}",
                f"its sources and the project's both have {clash[0]}",
                "another prefix of the functions in C",
                "Compile with another symbol, such as 'solver'.",
            )
        for name, text in texts.items():
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            (staged / name).write_text(text, encoding="utf-8", newline="\n")
        own = [*texts, *objects, *_stage_programs(build, programs, staged)]
        index[PROJECT] = {name: digest(staged / name) for name in sorted(own)}
        (staged / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
        if folder.exists():
            kept = update_folder(staged, folder)
        else:
            replace_folder(staged, folder)
    return WrittenProject(folder, kept)


def _stage_build(build: Build, staged: Path) -> dict[str, Any]:
    """Copy the build's own files, all but the sources to a folder of their own; its index, with the new names."""
    sources = set(build.artifact.sources)
    texts = weights_as_text(build.artifact)
    try:
        index: dict[str, Any] = json.loads((build.folder / INDEX).read_text(encoding="utf-8"))
        names = {name: _place(name, sources) for name in index["files"]}
        for name, new in names.items():
            (staged / new).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(build.folder / name, staged / new)
    except FileNotFoundError as error:
        raise InputError(
            str(staged.parent), f"the compiled files are gone ({error.filename})",
            "a solver whose cache entry still exists", "Compile or load the model again, then save.",
        ) from None  # fmt: skip
    for name, text in texts.items():
        (staged / name).write_text(text, encoding="utf-8", newline="\n")
    index.pop(PROJECT, None)
    index["files"] = {new: digest(staged / new) for new in sorted(names.values())}
    return index | {key: names.get(index[key], index[key]) for key in ("product", "model")}


def _place(name: str, sources: set[str]) -> str:
    return name if name in sources or name.startswith(f"{ASIDE}/") else f"{ASIDE}/{name}"


def _stage_objects(build: Build, staged: Path) -> list[str]:
    """Machine code that belongs to the solver: what TVM made, for which there is no C."""
    if build.artifact.backend != "tvm":
        return []
    from unfoldc.targets.tvm_build import build_objects

    return [file.name for file in build_objects(build.artifact, staged, find_target(build.target).core)]


def _stage_programs(build: Build, programs: Sequence[str], staged: Path) -> list[str]:
    for name in programs:
        (staged / name).parent.mkdir(exist_ok=True)
        shutil.copy(build.folder / name, staged / name)
    return list(programs)


def _version() -> str:
    return str(sys.modules[__name__.partition(".")[0]].__version__)


def _figures(build: Build, engine: Engine, test: SelfTest) -> Figures:
    sizes: Mapping[str, Any] = {
        key: getattr(engine, key, None) for key in ("flash_bytes", "ram_bytes", "stack_bound_bytes")
    }
    versions: Mapping[str, str] = build.artifact.notes.get(COMPILERS_NOTE, {})
    if not hasattr(engine, "count"):
        return Figures(**sizes, why="no emulator counts here", versions=versions)
    try:
        counts = cast(CountingEngine, engine).count(batched(build.artifact.inputs, test.inputs))
    except UnfoldcError as error:
        return Figures(**sizes, why=error.found, versions=versions)
    return Figures(**sizes, begin=counts.begin, iterate=counts.iterate, end=counts.end, versions=versions)
