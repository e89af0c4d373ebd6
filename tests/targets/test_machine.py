from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unfoldc.kernels.artifact import Artifact
from unfoldc.targets import find_target
from unfoldc.targets.firmware import build_firmware
from unfoldc.targets.machine import Machine
from unfoldc.targets.processors import PROCESSORS

LIMITS: dict[str, Any] = {"instruction_limit": 10_000_000, "time_limit": 60.0}
CPACR = 0xE000_ED88


@pytest.fixture(scope="module")
def machine(lista: Any, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """One started on a solver that also keeps a variable with an initial value and one without."""
    source = "float with_value = 3.0f;\nfloat zero[4];\nfloat *keep(void);\nfloat *keep(void) { return zero; }\n"
    use = lista.artifact("stm32f407").sources["solver.c"].replace("s->k = 0;", "s->k = 0; with_value += keep()[0];")
    use = "extern float with_value;\nfloat *keep(void);\n" + use
    artifact = lista.artifact("stm32f407", extra__c=source, solver__c=use)
    t = find_target("stm32f407")
    return Machine(build_firmware(artifact, t, tmp_path_factory.mktemp("machine")), t, counting=False, **LIMITS)


def word(machine: Machine, symbol: str) -> int:
    return int.from_bytes(machine.read(machine.firmware.symbols[symbol], 4), "little")


def test_start_up_code_prepares_memory_and_the_floating_point_unit(machine: Machine) -> None:
    assert word(machine, "with_value") == 0x40400000  # 3.0f
    assert machine.read(machine.firmware.symbols["zero"], 16) == bytes(16)
    assert machine.read(machine.firmware.symbols["solver_firmware_state"], 116) == bytes(116)
    assert word(machine, "solver_firmware_iterations") == 4
    assert int.from_bytes(machine.read(CPACR, 4), "little") == 0xF << 20


def test_bare_runs_count_nothing(machine: Machine) -> None:
    machine.call("solve")
    assert machine.instructions == 0
    assert machine.stack_bytes() > 0
    machine.paint_stack()
    assert machine.stack_bytes() == 0


def test_a_target_without_memories_is_a_mistake_of_the_caller(machine: Machine) -> None:
    with pytest.raises(ValueError, match="host takes no firmware"):
        Machine(machine.firmware, find_target("host"), counting=False, **LIMITS)


def test_thumb_instructions_are_two_or_four_bytes_long() -> None:
    # nop; b.w .; vadd.f32; ldr.w; bx lr; the last opcode below the four-byte ones (b.n)
    code = bytes.fromhex("00bf fff7febf 30ee0000 d1f80000 7047 ffe7".replace(" ", ""))
    assert PROCESSORS["thumb", 32].instructions(code) == 6


def test_each_part_may_use_the_whole_instruction_limit(
    patched_iterate: Callable[[str, str], Artifact], tmp_path: Path
) -> None:
    t = find_target("cortex-m4")
    slow = patched_iterate("cortex-m4", "for (volatile int i = 0; i < 1000; i++) {}")
    m = Machine(build_firmware(slow, t, tmp_path), t, counting=True, instruction_limit=20_000, time_limit=60.0)
    for _ in range(10):
        m.call("iterate")
    assert m.instructions > 20_000


def test_a_machine_that_nobody_uses_goes_away_with_its_thread(lista: Any, tmp_path: Path) -> None:
    t = find_target("cortex-m4")
    firmware = build_firmware(lista.artifact("cortex-m4"), t, tmp_path)
    before = set(threading.enumerate())
    machine = Machine(firmware, t, counting=False, instruction_limit=1000, time_limit=0.5)
    (watcher,) = set(threading.enumerate()) - before
    gone = weakref.ref(machine)
    del machine
    gc.collect()
    assert gone() is None
    watcher.join(30)
    assert not watcher.is_alive()


def test_riscv_instructions_are_two_or_four_bytes_long_and_those_of_aarch64_four() -> None:
    # c.nop; addi a0, a0, 1; c.jr ra; fmadd.s fa0, fa0, fa1, fa2; the last one compressed with 0b10
    code = bytes.fromhex("0100 13051500 8280 4375b560 0240".replace(" ", ""))
    assert PROCESSORS["riscv", 32].instructions(code) == PROCESSORS["riscv", 64].instructions(code) == 5
    assert PROCESSORS["aarch64", 64].instructions(bytes(16)) == 4
