"""The small solver on QEMU's machines: bits, counts and stack are those of unicorn; what can go wrong is named."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tools_at_hand import needs_tool

import unfoldc.targets.tools as tools
from unfoldc.errors import DeviceError, TargetError, ToolError
from unfoldc.kernels.artifact import Artifact
from unfoldc.targets import find_target
from unfoldc.targets.boards import all_targets
from unfoldc.targets.description import MemoryRegion
from unfoldc.targets.emulator import Emulator
from unfoldc.targets.firmware import build_firmware, compile_flags, firmware_sources
from unfoldc.targets.qemu import MACHINES, find_machine
from unfoldc.targets.qemu_build import build_qemu
from unfoldc.targets.qemu_run import QemuDevice, command
from unfoldc.targets.toolchains import run_compiler

pytestmark = needs_tool("qemu-system-arm", "qemu-system-riscv32", "qemu-system-riscv64")

K = 4
EVERYWHERE = ("cortex-m0", "cortex-m4", "cortex-m7", "cortex-m33", "rv32imc", "rv32imfc", "rv64gc")


def test_the_machines_are_those_of_the_cores() -> None:
    cores = {t.core.name: t.core for t in all_targets() if t.core is not None}
    assert {name for name, core in cores.items() if core.qemu_machine} == set(MACHINES)
    for name, machine in MACHINES.items():
        assert machine.name == cores[name].qemu_machine
        assert tools.emulator_tools(find_target(name)) == (machine.program,)
        # Two reads of the counter differ by less than one count from what has passed: half an instruction at most.
        assert machine.ticks >= 2 * machine.instructions or machine.ticks == 1


def test_a_target_without_a_machine_is_refused() -> None:
    with pytest.raises(TargetError, match="cortex-a53 on QEMU: QEMU has no machine .* allowed: cortex-m0, cortex-m4"):
        find_machine(find_target("cortex-a53"))


class Both:
    """One object file of the solver, linked for the target's memories and for those of QEMU's machine."""

    def __init__(self, lista: Any, core: str, folder: Path) -> None:
        target, artifact = find_target(core), lista.artifact(core)
        sources = firmware_sources(artifact, target)
        for name, text in sources.items():
            (folder / name).write_text(text)
        units = [name for name in sources if name.endswith(".c") and not name.endswith("_main.c")]
        (folder / "all.c").write_text("".join(f'#include "{name}"\n' for name in units))
        run_compiler([*compile_flags(target), "-c", "all.c", "-o", "solver.o"], folder, "test")
        header = replace(artifact, sources={"solver.h": artifact.sources["solver.h"]})
        objects = [folder / "solver.o"]
        elf = build_qemu(header, target, find_machine(target), folder, objects=objects)
        self.qemu = QemuDevice(header, target, find_machine(target), elf)
        firmware = build_firmware(header, target, folder, objects=objects)
        self.unicorn = Emulator(firmware, header, target) if target.core and target.core.unicorn_model else None


@pytest.fixture(scope="module")
def both(lista: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Both]:
    return cache(lambda core: Both(lista, core, tmp_path_factory.mktemp(core)))


@pytest.mark.parametrize("core", EVERYWHERE)
def test_the_same_object_gives_the_same_bits_as_on_unicorn(both: Any, problems: np.ndarray, core: str) -> None:
    qemu, unicorn = both(core).qemu, both(core).unicorn
    special = [np.array([v, 1, -2, 0.5, 3], np.float32) for v in (np.nan, np.inf, -np.inf, 1e38, 1e-40)]
    for y in [*problems, *special]:
        for k in range(K + 1):
            (found,), (wanted,) = qemu.solve([y], k), unicorn.solve([y], k)
            assert found.dtype == wanted.dtype and found.shape == wanted.shape
            assert found.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("core", EVERYWHERE)
def test_the_same_object_takes_as_many_instructions_and_as_much_stack(
    both: Any, problems: np.ndarray, core: str
) -> None:
    """In software floating point they depend on the numbers."""
    for y in problems[:3]:
        found, wanted = both(core).qemu.count([y]), both(core).unicorn.count([y])
        assert (found.begin, found.iterate, found.end) == (wanted.begin, wanted.iterate, wanted.end)
        assert found.stack_bytes == wanted.stack_bytes


def test_a_cortex_m55_computes_with_vectors(lista: Any, both: Any, problems: np.ndarray) -> None:
    qemu = both("cortex-m55").qemu
    for y in problems:
        for k in range(K + 1):
            np.testing.assert_allclose(qemu.solve([y], k)[0], lista.solve(y, k), atol=1e-6)
    for value in (np.nan, np.inf, -np.inf):
        assert (~np.isfinite(qemu.solve([np.array([value, 0, 0, 0, 0], np.float32)], 1)[0])).all()
    counts = [qemu.count([y]) for y in problems]
    assert len(set(counts)) == 1 and len(set(counts[0].iterate)) == 1
    assert counts[0].iterate[0] < both("cortex-m7").qemu.count([problems[0]]).iterate[0]


def device(artifact: Artifact, core: str, folder: Path, timeout: float = 60.0) -> QemuDevice:
    target = find_target(core)
    machine = find_machine(target)
    return QemuDevice(artifact, target, machine, build_qemu(artifact, target, machine, folder), timeout=timeout)


FAULTS = {
    "*(volatile int *)0x50000004 = 1;": (
        r"reads or writes memory that is not there, address 0x50000004, in solver_iterate\+0x",
        r"writes memory that is not there, address 0x00010004, in solver_iterate\+0x",
    ),
    '__asm__ volatile(".short 0xde00");': (
        r"meets an undefined instruction in solver_iterate\+0x",
        r"meets an undefined instruction in solver_iterate\+0x",
    ),
    "void (*volatile f)(void) = (void (*)(void))0xe0000001; f();": (
        r"jumps to memory that is not there in 0xe0000000, where there is no code, last called from solver_iterate\+0x",
        r"jumps to memory that is not there, address 0x00010000, in 0x00010000, .* last called from solver_iterate\+0x",
    ),
}
RISCV = {"0x50000004": "0x10004", ".short 0xde00": "unimp", "0xe0000001": "0x10000"}


@pytest.mark.parametrize("core", ["cortex-m4", "rv64gc"])
@pytest.mark.parametrize("statement", FAULTS)
def test_a_fault_is_reported_with_its_place(
    statement: str, core: str, patched_iterate: Callable[[str, str], Artifact], tmp_path: Path
) -> None:
    message = FAULTS[statement][core == "rv64gc"]
    if core == "rv64gc":
        for here, there in RISCV.items():
            statement = statement.replace(here, there)
    broken = device(patched_iterate(core, statement), core, tmp_path)
    with pytest.raises(DeviceError, match=rf"^solver on QEMU's \S+: the program {message}"):
        broken.solve([np.zeros(5, np.float32)], K)
    assert broken.process.returncode == 70


def test_a_processor_that_gives_up_ends_qemu(patched_iterate: Callable[[str, str], Artifact], tmp_path: Path) -> None:
    no_stack = '__asm__ volatile("mov sp, %0" : : "r"(0x50000000)); *(volatile int *)0x50000004 = 1;'
    broken = device(patched_iterate("cortex-m4", no_stack), "cortex-m4", tmp_path)
    with pytest.raises(DeviceError, match="QEMU was ended by SIGABRT: qemu: fatal: Lockup"):
        broken.solve([np.zeros(5, np.float32)], K)


def test_a_program_that_does_not_end_is_stopped_and_leaves_no_process(
    patched_iterate: Callable[[str, str], Artifact], tmp_path: Path
) -> None:
    loop = "for (volatile int i = 0; s->y[0] > 0.5f; i++) {}"
    endless = device(patched_iterate("cortex-m4", loop), "cortex-m4", tmp_path, timeout=0.5)
    # Should this process be killed now, the machine would end when it has taken two seconds.
    assert 1 <= resource.prlimit(endless.process.pid, resource.RLIMIT_CPU)[0] <= 3
    assert np.isfinite(endless.solve([np.zeros(5, np.float32)], K)[0]).all()
    with pytest.raises(DeviceError, match=r"the program had not finished after 0.5 s.*timeout=SECONDS"):
        endless.solve([np.ones(5, np.float32)], K)
    endless.close()
    assert endless.process.returncode is not None
    with pytest.raises(ProcessLookupError):
        os.kill(endless.process.pid, 0)


def test_a_machine_that_is_killed_is_reported(lista: Any, tmp_path: Path, problems: np.ndarray) -> None:
    killed = device(lista.artifact("rv32imc"), "rv32imc", tmp_path)
    killed.process.send_signal(signal.SIGKILL)
    with pytest.raises(DeviceError, match="QEMU was ended by SIGKILL"):
        killed.solve([problems[0]], K)


def test_a_machine_ends_with_its_object(lista: Any, tmp_path: Path) -> None:
    unused = device(lista.artifact("cortex-m4"), "cortex-m4", tmp_path)
    process = unused.process
    start = time.monotonic()
    del unused
    assert process.returncode == 0  # of itself, when its input ended
    assert time.monotonic() - start < 30


def test_what_is_too_large_for_the_machine_is_refused(lista: Any, tmp_path: Path) -> None:
    target = find_target("cortex-m4")
    small = replace(find_machine(target), flash=MemoryRegion(0, 512))
    with pytest.raises(TargetError, match=r"solver with K = 4 on QEMU's mps2-an386: it does not fit .* 512 bytes of"):
        build_qemu(lista.artifact("cortex-m4"), target, small, tmp_path)


def test_a_missing_qemu_is_named(both: Any, lista: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unfoldc.targets.tools.shutil.which", lambda *_, **__: None)
    target = find_target("cortex-m4")
    with pytest.raises(ToolError, match="qemu-system-arm not installed.*apt-get install qemu-system-arm"):
        QemuDevice(lista.artifact("cortex-m4"), target, find_machine(target), Path("none.elf"))


def test_a_file_that_qemu_cannot_read_is_reported(lista: Any) -> None:
    target = find_target("cortex-m4")
    with pytest.raises(DeviceError, match=r"QEMU ended \(1\): .*none.elf"):
        QemuDevice(lista.artifact("cortex-m4"), target, find_machine(target), Path("none.elf"))


def test_firmware_may_start_no_processes() -> None:
    confined = command(find_machine(find_target("cortex-m4")), Path("a.elf"))
    assert "spawn=deny" in confined[confined.index("-sandbox") + 1]
