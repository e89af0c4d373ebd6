"""`unfoldc compile`: an ONNX file to a build folder."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from unfoldc.commands.common import Subparsers, add_compilation, add_json, new_command, open_solver, print_json

if TYPE_CHECKING:
    from unfoldc.runtime.solver import Solver


def add(commands: Subparsers) -> argparse.ArgumentParser:
    """Declare the command."""
    parser = new_command(
        commands,
        "compile",
        run,
        "compile an ONNX file for a target into a build folder, for a board into a project",
        "unfoldc compile lista.onnx --target stm32f407 -o project",
    )
    parser.add_argument("model", help="an ONNX file")
    parser.add_argument(
        "-o", "--output", metavar="FOLDER", help="folder to write (default: build/<name of the model>-<target>)"
    )
    parser.add_argument("--symbol", default="solver", help="prefix of the functions in generated C (default: solver)")
    add_compilation(parser)
    add_json(parser)
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Compile, save, and say what was made."""
    from unfoldc.targets import find_target

    solver = open_solver(arguments, arguments.symbol)
    default = Path("build") / f"{Path(arguments.model).stem}-{solver.target}"
    folder, kept = _save(solver, Path(arguments.output or default))
    memory = solver.artifact.memory
    if arguments.json:
        print_json(
            {
                "folder": str(folder),
                "target": solver.target,
                "backend": solver.backend,
                "backend_reason": solver.backend_reason,
                "notes": solver.notes,
                "iterations": solver.iterations,
                "inputs": {p.name: {"dtype": p.dtype, "shape": p.shape, "batched": p.batched} for p in solver.inputs},
                "outputs": {p.name: {"dtype": p.dtype, "shape": p.shape, "batched": p.batched} for p in solver.outputs},
                "constant_bytes": memory.constant_bytes,
                "state_bytes": memory.state_bytes,
                **({"flash_bytes": solver.flash_bytes, "ram_bytes": solver.ram_bytes}),
                "stack_bound_bytes": solver.stack_bound_bytes,
                "kept": kept,
                "next": _next(solver, folder),
                "runners": [str(p) for p in _runners(solver, folder)],
            }
        )
        return
    print(solver.signature)
    print(f"{solver.iterations} iterations for {solver.target}, backend {solver.backend} ({solver.backend_reason})")
    if solver.flash_bytes is not None:
        stack = solver.stack_bound_bytes
        bound = "of unknown depth" if stack is None else f"of at most {stack} bytes"
        where = "code and constants" if find_target(solver.target).has_system else "flash"
        print(f"{where} {solver.flash_bytes} bytes, RAM {solver.ram_bytes} bytes, and a stack {bound}")
    else:
        state = "of unknown size" if memory.state_bytes is None else f"{memory.state_bytes} bytes"
        print(f"constants {memory.constant_bytes} bytes, state {state}")
    print(f"written to {folder}: {', '.join(sorted(p.name for p in folder.iterdir()))}")
    if kept:
        print(f"left as they are, because somebody has changed them: {', '.join(kept)}")
    for runner in _runners(solver, folder):
        print(f"for {solver.on}: {runner}" + (", to be flashed" if runner.suffix == ".elf" else ""))
    for line in _next(solver, folder):
        print(f"next: {line}")


def _save(solver: Solver, folder: Path) -> tuple[Path, tuple[str, ...]]:
    """Where the solver was written, and the files of an earlier project that were left as they are."""
    from unfoldc.targets import find_target

    if find_target(solver.target).kind != "emulated":
        return solver.save(folder), ()
    written = solver.write_project(folder)
    return written.folder, written.kept


def _runners(solver: Solver, folder: Path) -> list[Path]:
    """What runs the solver elsewhere, built for its address."""
    return sorted((folder / "remote").glob(f"{solver.artifact.symbol}-*.*")) if solver.on else []


def _next(solver: Solver, folder: Path) -> list[str]:
    """The commands that build and test a project, after the one that installs what they need."""
    from unfoldc.targets import find_target

    target = find_target(solver.target)
    if target.core is None:
        return []
    from unfoldc.targets.project.places import place_of
    from unfoldc.targets.tools import debian_command, gnu_tools, missing_tools

    preset = "zig" if missing_tools(gnu_tools(target)) else "gcc"
    lacking = missing_tools(("cmake", place_of(target.core).program))
    zig = f" -DUNFOLDC_PYTHON={shlex.quote(sys.executable)}" if preset == "zig" and not _finds_zig() else ""
    build = f"cmake --preset {preset}{zig} && cmake --build --preset {preset} && ctest --preset {preset}"
    lines = [debian_command(lacking)] if lacking else []
    return [*lines, f"cd {shlex.quote(str(folder))} && {build}"]


def _finds_zig() -> bool:
    """Whether CMake finds a zig by itself: the program, or that of this Python, if it is the first one."""
    first = shutil.which("python3")
    return bool(shutil.which("zig")) or (first is not None and Path(first).parent == Path(sys.executable).parent)
