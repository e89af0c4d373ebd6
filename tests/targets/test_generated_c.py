"""The C that is printed is what an embedded engineer accepts; `docs/generated_c.md` says it, these tests hold it."""

from __future__ import annotations

import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generated_c import misra
from generated_c.compilers import C99, CHECK_ONLY, COMPILERS, WARNINGS, compile_c, require
from generated_c.programs import (
    METAL,
    OPERATORS,
    Generated,
    operator_programs,
    solver_names,
    solver_program,
    write_units,
)

from unfoldc.errors import ToolError
from unfoldc.kernels.artifact import Artifact
from unfoldc.kernels.printers.c.helpers import LIBRARY
from unfoldc.targets import find_target
from unfoldc.targets.emulator import Emulator
from unfoldc.targets.firmware import build_firmware
from unfoldc.targets.firmware_sources import main_source
from unfoldc.targets.toolchains import FAST_MATH, OPTIMISE

SOLVERS = ("admm", "conjugate_gradient", "float64", "matrices", "middle_differs", "mean_of_iterates", "step_from_table")
# What compilers call on their own.
_MEMORY = {"memcpy", "memset", "memmove", "__aeabi_memcpy", "__aeabi_memcpy4", "__aeabi_memclr", "__aeabi_memclr4"}
_HEAP = re.compile(r"\b(malloc|calloc|realloc|free|alloca|new)\b")


@cache
def operators(target: str, everything: bool = False) -> tuple[tuple[str, Generated], ...]:
    return tuple(operator_programs(target, everything))


@cache
def solvers(target: str) -> tuple[Generated, ...]:
    return tuple(solver_program(name, target) for name in SOLVERS if target == "host" or name != "float64")


def code(text: str) -> str:
    """C without its comments."""
    return re.sub(r"/\*.*?\*/", "", text, flags=re.S)


def test_every_operator_has_a_program() -> None:
    """On bare metal, too, but for the few whose cases compute in float64."""
    found = {target: {operator for operator, _ in operators(target)} for target in ("host", METAL)}
    assert len(OPERATORS) > 50 and found["host"] == set(OPERATORS), sorted(set(OPERATORS) - found["host"])
    assert len(found[METAL]) > 0.95 * len(OPERATORS), sorted(set(OPERATORS) - found[METAL])


@pytest.mark.parametrize(
    "everything", [pytest.param(False, id="one-of-each"), pytest.param(True, id="all", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_no_compiler_warns(compiler: str, everything: bool, tmp_path: Path) -> None:
    """Each operator, in both float types, and whole solvers; the host's drivers, with lanes and without."""
    require(compiler)
    for target in ("host", METAL):
        folder = tmp_path / target
        folder.mkdir()
        programs = [*(p for _, p in operators(target, everything)), *solvers(target)]
        units = write_units(programs, folder)
        drivers = [p for p in programs if f"{p.symbol}_host.c" in p.artifact.sources][:: 1 if everything else 20]
        # Lanes are vectors of GNU C by design; they pass between our own functions only.
        lanes = [p for p in drivers if f"{p.symbol}_lanes.c" in p.artifact.sources]
        plain = [f"{p.symbol}_host.c" for p in drivers if p not in lanes]
        compile_c(compiler, [*C99, *WARNINGS, *CHECK_ONLY[compiler], *units, *plain], folder)
        wide = [f"{p.symbol}_{part}.c" for p in lanes for part in ("host", "lanes")]
        if wide:
            compile_c(compiler, ["-std=gnu99", *WARNINGS, "-Wno-psabi", *CHECK_ONLY[compiler], *wide], folder)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_start_up_code_is_clean(compiler: str, tmp_path: Path) -> None:
    require(compiler)
    solver = solvers(METAL)[0]
    solver.write(tmp_path)
    (tmp_path / "main.c").write_text(main_source(solver.artifact, find_target(METAL)))
    compile_c(compiler, [*C99, *WARNINGS, "-fsyntax-only", "main.c"], tmp_path)


def test_a_compiler_that_is_asked_so_does_warn(tmp_path: Path) -> None:
    """The checks above can fail."""
    narrow = "float f(double x); float f(double x) { return x; }"
    variable = "int g(int n); int g(int n) { int a[n]; return a[0]; }"
    for text in (narrow, variable):
        (tmp_path / "bad.c").write_text(text + "\n")
        for compiler in COMPILERS:
            if compiler == "zig" or shutil.which(compiler):
                with pytest.raises((AssertionError, ToolError), match="-W"):
                    compile_c(compiler, [*C99, *WARNINGS, *CHECK_ONLY[compiler], "bad.c"], tmp_path)


def test_functions_call_only_what_stands_before_them() -> None:
    """So none calls itself, over any number of others; and there is neither a heap nor a pointer to a function."""
    for _, program in operators("host") + tuple(("", s) for s in solvers("host")):
        for name in (f"{program.symbol}.c", f"{program.symbol}_lanes.c"):
            if name not in program.artifact.sources:
                continue
            text = code(program.artifact.sources[name])
            assert not _HEAP.search(text) and "(*" not in text and "goto" not in text
            parts = re.split(r"^(?:static |inline |const )*\w+ (\w+)\(([^;{]*)\) \{$", text, flags=re.M)
            defined = [parts[i] for i in range(1, len(parts), 3)]
            assert f"{name[:-2]}_iterate" in defined
            for i, function in enumerate(defined):
                called = set(re.findall(r"\b(\w+)\(", parts[3 * i + 3]))
                assert not called & set(defined[i:]), f"{function} calls {called & set(defined[i:])}"


def test_nothing_is_included_but_the_own_headers_and_integers() -> None:
    for _, program in operators(METAL):
        for text in program.artifact.sources.values():
            for included in re.findall(r"#include (\S+)", text):
                assert included == "<stdint.h>" or included.startswith(f'"{program.symbol}')


def test_a_float32_model_computes_in_float_alone() -> None:
    """A power without a C library is the exception."""
    for operator, program in operators(METAL):
        text = code(program.artifact.sources[f"{program.symbol}.c"])
        if "powf" not in text:
            assert not re.search(r"\bdouble\b", text), operator
            assert not re.search(r"(?<![\w.])\d+\.\d*(e[-+]?\d+)?(?![\w.])", text), operator


def test_constants_lie_in_flash_and_nothing_is_writable(tmp_path: Path) -> None:
    """Sections and undefined symbols of the objects, before anything is linked."""
    from elftools.elf.elffile import ELFFile

    programs = [*solvers(METAL), *(p for _, p in operators(METAL))]
    target = find_target(METAL)
    for unit in write_units(programs, tmp_path):
        compile_c("zig", [*target.flags, *OPTIMISE, *FAST_MATH, *C99, "-c", unit, "-o", unit + ".o"], tmp_path)
        with (tmp_path / f"{unit}.o").open("rb") as stream:
            file = ELFFile(stream)
            for section in file.iter_sections():
                if section.name.startswith((".data", ".bss", ".tdata", ".tbss")):
                    assert section["sh_size"] == 0, section.name
            table: Any = file.get_section_by_name(".symtab")
            symbols = list(table.iter_symbols())
            for s in symbols:
                if s["st_info"]["type"] == "STT_OBJECT":
                    assert file.get_section(s["st_shndx"]).name.startswith(".rodata"), s.name
            missing = {s.name for s in symbols if s["st_shndx"] == "SHN_UNDEF" and s.name}
        functions = {f"{name}{suffix}" for name in LIBRARY.values() for suffix in ("", "f")}
        arithmetic = {name for name in missing if name.startswith("__aeabi_")}  # 64-bit integers, double
        assert missing <= functions | _MEMORY | arithmetic, missing - functions - _MEMORY - arithmetic
    constants = sum(p.artifact.memory.constant_bytes for p in programs)
    assert constants > 1000


@pytest.mark.parametrize("name", ["admm", "middle_differs", "mean_of_iterates"])
def test_the_stack_of_a_solver_has_a_bound(name: str, tmp_path: Path) -> None:
    solver, target = solver_program(name, METAL), find_target(METAL)
    firmware = build_firmware(solver.artifact, target, tmp_path, strict=True)
    measured = Emulator(firmware, solver.artifact, target).count().stack_bytes
    assert firmware.stack_bound_bytes is not None and measured <= firmware.stack_bound_bytes < 1024


def test_the_bound_is_in_the_notes(tmp_path: Path) -> None:
    from unfoldc.runtime.products import make_product, with_notes

    artifact: Artifact = solver_program("admm", METAL).artifact
    product = make_product(artifact, METAL, "emulated", tmp_path)
    noted = with_notes(artifact, METAL, "emulated", tmp_path / product)
    assert 0 < noted.notes["stack_bound_bytes"] < 1024 and artifact.notes.items() <= noted.notes.items()
    assert with_notes(artifact, "host", "host", tmp_path / "none") is artifact


def test_comments_lead_back_to_nodes_and_iterations() -> None:
    for name in np.random.default_rng(5).choice(solver_names(), 6, replace=False):
        solver = solver_program(str(name), "host")
        text = solver.artifact.sources[f"{solver.symbol}.c"]
        stated = [int(n) for pair in re.findall(r"/\* Iterations? (\d+)(?: to (\d+))?", text) for n in pair if n]
        assert stated[0] == 0 and stated[-1] == solver.artifact.iterations - 1 and stated == sorted(stated)
        origins = re.findall(r"/\* from ([\w., *\n]+?)\*/", text)
        assert origins and all(re.match(r"[\w.]+ [A-Z][A-Za-z]+(,|\s|$)", origin) for origin in origins), origins


def test_the_same_model_gives_the_same_bytes() -> None:
    for name in ("admm", "middle_differs"):
        assert solver_program(name).artifact.sources == solver_program(name).artifact.sources


@pytest.mark.slow
def test_the_rules_that_cppcheck_reports_are_those_in_the_document(tmp_path: Path) -> None:
    if misra.why_not():
        pytest.skip(misra.why_not())
    found: dict[str, Any] = dict(misra.report())
    assert set(found) == misra.documented() == set(misra.ARGUMENTS)
    assert "no claim of compliance" in misra.DOCUMENT.read_text().lower()
