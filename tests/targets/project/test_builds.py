"""Projects as written are configured and built by CMake, every warning an error, and test themselves under QEMU."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from generated_c.programs import solver_names
from project_builds import build, run
from tools_at_hand import needs_tool

from unfoldc.targets import find_target
from unfoldc.targets.project.places import place_of

GCC = {"thumb": "arm-none-eabi-gcc", "riscv": "riscv64-unknown-elf-gcc", "aarch64": "aarch64-linux-gnu-gcc"}
CORES = (
    "cortex-m0",
    "cortex-m4",
    "cortex-m7",
    "cortex-m33",
    "cortex-m55",
    "cortex-a72",
    "rv32imc",
    "rv32imfc",
    "rv64gc",
)
Write = Callable[[str, str], Path]


def needs(target: str, *more: str) -> pytest.MarkDecorator:
    core = find_target(target).core
    assert core is not None
    return needs_tool("cmake", GCC[core.architecture], place_of(core).program, *more)


def cases(*targets: str, slow: bool = False) -> list[object]:
    mark = [pytest.mark.slow] if slow else []
    return [pytest.param(t, marks=[needs(t), *mark]) for t in targets]


def passed(text: str) -> bool:
    return "100% tests passed, 0 tests failed out of 2" in text


@pytest.mark.parametrize("target", [*cases("rv32imfc", "raspberry-pi-4"), *cases(*CORES, slow=True)])
def test_gnu_builds(write: Write, target: str) -> None:
    folder = write("middle_differs", target)
    build(folder, "gcc")
    assert passed(run(folder, "ctest", "--preset", "gcc"))


@needs("stm32f407")
def test_a_board_and_a_wrong_answer(write: Write) -> None:
    """The example says its times; the self-test passes, and names the element whose expected value is changed."""
    folder = write("admm", "stm32f407")
    build(folder, "gcc")
    command = place_of(find_target("cortex-m4").core).command  # type: ignore[arg-type]
    said = run(folder, *command, "build/gcc/admm_example")
    assert re.match(r"iteration 1: \d+ cycles\niteration 2: \d+ cycles\n", said)
    assert said.endswith("a board has\n")  # QEMU has no counter for this processor
    program = "build/gcc/admm_selftest"
    assert run(folder, *command, program).startswith("admm: self-test passed, ")
    data = folder / "selftest" / "selftest_data.c"
    head, values = data.read_text().split("expected_0[")
    numbers = re.findall(r"-?0x1\.\w+p[-+]\d+f", values)
    place = max(range(len(numbers)), key=lambda i: abs(float.fromhex(numbers[i][:-1])))
    assert values.count(numbers[place]) == 1
    flipped = numbers[place].removeprefix("-") if numbers[place].startswith("-") else f"-{numbers[place]}"
    data.write_text(f"{head}expected_0[{values.replace(numbers[place], flipped)}")
    run(folder, "cmake", "--build", "--preset", "gcc")
    text = run(folder, *command, program, status=1)
    index = [n.strip() for n in values.partition("{")[2].partition("}")[0].split(",")].index(numbers[place])
    found = re.search(r"FAILED, 1 of \d+ elements differ, the first is output 0, element (\d+): found (\S+), exp", text)
    assert found and int(found[1]) == index
    assert float(found[2]) == pytest.approx(float.fromhex(numbers[place][:-1]), rel=2e-4)
    assert "selftest (Failed)" in run(folder, "ctest", "--preset", "gcc", status=None)


@needs("stm32f407")
@pytest.mark.slow
def test_a_fault_and_an_endless_loop_fail(write: Write) -> None:
    folder = write("admm", "stm32f407")
    solver = folder / "admm.c"
    text = solver.read_text()
    broken = "    *(volatile int32_t *)0xF0000000u = 1;\n"
    solver.write_text(text.replace("    s->k = 0;\n", f"    s->k = 0;\n{broken}", 1))
    build(folder, "gcc")
    said = run(folder, "ctest", "--preset", "gcc", status=None)
    assert "the processor met a fault" in said and "selftest (Failed)" in said


@pytest.mark.slow
@pytest.mark.parametrize("target", [pytest.param(t, marks=needs(t, "clang")) for t in CORES])
def test_clang_builds(write: Write, target: str) -> None:
    folder = write("admm", target)
    build(folder, "clang")
    assert passed(run(folder, "ctest", "--preset", "clang"))


@pytest.mark.slow
@pytest.mark.parametrize("target", [pytest.param(t, marks=needs(t)) for t in CORES])
def test_zig_builds(write: Write, target: str) -> None:
    folder = write("admm", target)
    build(folder, "zig")
    assert passed(run(folder, "ctest", "--preset", "zig"))


@pytest.mark.slow
@pytest.mark.parametrize("target", cases("stm32f407", "rp2040", "esp32-c3", "raspberry-pi-4", "cortex-m55"))
def test_some_of_all_solvers(write: Write, target: str) -> None:
    """With the order of sums kept as well."""
    usable = [name for name in solver_names() if name != "float64" or "float64" in find_target(target).spec.float_types]
    for name in np.random.default_rng(len(target)).choice(usable, 6, replace=False).tolist():
        folder = write(name, target)
        for option in ("ON", "OFF"):
            build(folder, "gcc", f"-DUNFOLDC_FAST_MATH={option}")
            assert passed(run(folder, "ctest", "--preset", "gcc")), (name, option)


def fenced(readme: Path, language: str) -> list[str]:
    """The code in a README."""
    return re.findall(rf"^```{language}\n(.*?)^```$", readme.read_text(), flags=re.M | re.S)


@pytest.mark.parametrize("target", cases("stm32f407", "raspberry-pi-4"))
def test_the_readmes_example_builds_in_another_project(write: Write, tmp_path: Path, target: str) -> None:
    """As it stands there; within another project there is the library alone."""
    folder, linux = write("admm", target), target.startswith("raspberry")
    outer = tmp_path / "outer"
    place = outer / "third_party" / "admm"
    place.parent.mkdir(parents=True)
    place.symlink_to(folder)
    (calls, *checks), (cmake,) = fenced(folder / "README.md", "c"), fenced(folder / "README.md", "cmake")
    assert len(checks) == (not linux) and cmake.startswith("add_subdirectory(third_party/admm)\n")
    use = "int main(void) { solve(); solve_step_by_step(); return 0; }\n"
    (outer / "main.c").write_text(calls + use)
    program = "add_executable(your_program main.c)" if linux else "add_library(your_program STATIC main.c)"
    more = ""
    if checks:
        (outer / "check.c").write_text(checks[0])
        more = (
            "target_sources(your_program PRIVATE check.c third_party/admm/selftest/selftest.c"
            " third_party/admm/selftest/selftest_data.c)\n"
        )
    (outer / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.21)\nproject(outer LANGUAGES C)\nadd_compile_options(-Wall -Wextra -Werror)\n"
        f"{program}\n{cmake}{more}"
    )
    run(outer, "cmake", "-B", "b", f"-DCMAKE_TOOLCHAIN_FILE={folder}/cmake/gcc.cmake", "--graphviz=b/graph.dot")
    run(outer, "cmake", "--build", "b")
    assert "admm_selftest" not in (outer / "b" / "graph.dot").read_text()
    if linux:
        run(outer, "qemu-aarch64-static", "b/your_program")


def test_presets_and_toolchain_files_agree(write: Write) -> None:
    folder = write("admm", "rp2040")
    presets = json.loads((folder / "CMakePresets.json").read_text())
    names = {p["name"] for p in presets["configurePresets"] if not p.get("hidden")}
    assert names == {p.stem for p in (folder / "cmake").glob("*.cmake")} - {"emulator"}


@needs_tool("cmake")
def test_a_python_without_zig_is_told_what_to_do(write: Write, tmp_path: Path) -> None:
    """The first python3 need not be the one that has ziglang."""
    folder, programs = write("admm", "stm32f407"), tmp_path / "bin"
    programs.mkdir()
    for name in ("python3", "python"):
        (programs / name).write_text("#!/bin/sh\nexit 1\n")
        (programs / name).chmod(0o755)
    path = f"PATH={programs}:/usr/bin:/bin"
    said = " ".join(run(folder, "env", path, "cmake", "--preset", "zig", status=1).split())
    assert "Run `python3 -m pip install ziglang`, or name another Python that has it: -DUNFOLDC_PYTHON=" in said
    run(folder, "env", path, "cmake", "--preset", "zig", f"-DUNFOLDC_PYTHON={sys.executable}")
