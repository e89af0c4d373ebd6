"""A product around a written project, as docs/boards.md says: its own UART and the runner, behind a serial port."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from emulated_board import emulated
from generated_c.programs import solver_program
from project_builds import run
from remote_runners import job
from tools_at_hand import needs_tool

from unfoldc.targets import find_target
from unfoldc.targets.device import device_source
from unfoldc.targets.qemu import MACHINES
from unfoldc.targets.remote.address import parse_address
from unfoldc.targets.remote.connect import connect
from unfoldc.targets.tools import gnu_tools

# QEMU's RISC-V machine has a UART like that of a PC.
NS16550 = """\
#include "unfoldc_runner.h"
int main(void);
static volatile uint8_t *const uart = (volatile uint8_t *)0x10000000u;
int unfoldc_port_read(uint8_t *to, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        while ((uart[5] & 1u) == 0u) {
        }
        to[i] = uart[0];
    }
    return 1;
}
int unfoldc_port_write(const uint8_t *from, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        while ((uart[5] & 0x20u) == 0u) {
        }
        uart[0] = from[i];
    }
    return 1;
}
int main(void) {
    unfoldc_runner_serve();
    return 0;
}
"""
PRODUCT = """\
cmake_minimum_required(VERSION 3.21)
project(product LANGUAGES C)
add_subdirectory(solver)
target_compile_definitions(unfoldc_admm_runner PRIVATE UNFOLDC_RUNNER_STACK_LOW=firmware_bss_end @DEFINITIONS)
add_executable(product port.c solver/platform/platform.c)
target_include_directories(product PRIVATE solver/platform)
target_compile_definitions(product PRIVATE @DEFINITIONS)
target_link_libraries(product PRIVATE unfoldc_admm unfoldc_admm_runner)
target_link_options(product PRIVATE "-T${CMAKE_CURRENT_SOURCE_DIR}/solver/platform/emulator.ld")
"""
# QEMU's Cortex-M have no cycle counter; where the UART of each machine is: Arm's application notes.
SYSTICK = "UNFOLDC_CLOCK_SYSTICK"
DEFINITIONS = {
    "cortex-m0": SYSTICK,
    "cortex-m4": SYSTICK,
    "cortex-m7": SYSTICK,
    "cortex-m33": f"{SYSTICK} UNFOLDC_UART=0x50200000u",
    "cortex-m55": f"{SYSTICK} UNFOLDC_UART=0x59303000u",
    "rv32imc": "",
    "rv32imfc": "",
    "rv64gc": "",
}


def cases() -> list[object]:
    found: list[object] = []
    for core, machine in MACHINES.items():
        tools = ("cmake", machine.program, *gnu_tools(find_target(core)))
        marks = [needs_tool(*tools), *([] if core == "cortex-m4" else [pytest.mark.slow])]
        found.append(pytest.param(core, marks=marks))
    return found


@pytest.mark.parametrize("core", cases())
def test_a_product_solves_and_counts_behind_its_own_uart(
    core: str, write: Callable[[str, str], Path], tmp_path: Path
) -> None:
    machine, solver = MACHINES[core], solver_program("admm", core)
    write("admm", core).rename(tmp_path / "solver")
    definitions = DEFINITIONS[core]
    (tmp_path / "port.c").write_text(device_source("port_cmsdk_uart.c") if definitions else NS16550)
    (tmp_path / "CMakeLists.txt").write_text(PRODUCT.replace("@DEFINITIONS", definitions))
    run(tmp_path, "cmake", "-B", "b", "-DCMAKE_TOOLCHAIN_FILE=solver/cmake/gcc.cmake", "-DCMAKE_BUILD_TYPE=Release")
    run(tmp_path, "cmake", "--build", "b")
    with emulated((machine.program, *machine.arguments), tmp_path / "b" / "product") as port:
        for _ in range(2):  # a connection each: the board goes on
            device = connect(parse_address(f"serial:{port}?timeout=20"), job(solver.artifact, Path(), core))
            inputs, steps = solver.inputs, solver.artifact.iterations
            for found, wanted in zip(device.solve(inputs, steps), solver.wanted, strict=True):
                assert found.ravel() == pytest.approx(np.ravel(wanted), rel=1e-4, abs=1e-5)
            ticks = device.profile(inputs, steps, repeats=3)
            assert ticks.hello.clock_unit == "cycles" and ticks.counts[:, 1:-1].all()
            stack = device.stack(inputs, steps)
            assert stack is not None and 0 < stack < 4096
            device.close()
