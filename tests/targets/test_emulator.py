from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unfoldc.targets.description as description
from unfoldc.errors import InputError, TargetError, ToolError
from unfoldc.kernels.artifact import Artifact
from unfoldc.targets import find_target
from unfoldc.targets.emulator import Emulator
from unfoldc.targets.firmware import build_firmware

K = 4


def emulate(artifact: Artifact, folder: Path, target: str = "cortex-m4", **limits: Any) -> Emulator:
    t = find_target(target)
    return Emulator(build_firmware(artifact, t, folder), artifact, t, **limits)


@pytest.fixture(scope="module")
def emulator(lista: Any, tmp_path_factory: pytest.TempPathFactory) -> Emulator:
    return emulate(lista.artifact("cortex-m4"), tmp_path_factory.mktemp("emulator"))


@pytest.mark.parametrize("iterations", [None, *range(K + 1)])
def test_answers_equal_numpys(lista: Any, emulator: Emulator, problems: np.ndarray, iterations: int | None) -> None:
    for y in problems:
        (x,) = emulator.solve([y], iterations)
        assert x.shape == (9,) and x.dtype == np.float32 and x.flags.writeable
        np.testing.assert_allclose(x, lista.solve(y, iterations), atol=1e-6)


@pytest.mark.parametrize("board", ["stm32f407", "nrf52840"])
def test_boards_give_the_same_answers(
    lista: Any, emulator: Emulator, problems: np.ndarray, board: str, tmp_path: Path
) -> None:
    on_board = emulate(lista.artifact(board), tmp_path, board)
    np.testing.assert_array_equal(on_board.solve([problems[0]])[0], emulator.solve([problems[0]])[0])
    assert on_board.count() == emulator.count()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_fast_math_keeps_nan_and_inf(emulator: Emulator, value: float) -> None:
    assert (~np.isfinite(emulator.solve([np.array([value, 0, 0, 0, 0], np.float32)], 1)[0])).all()


def test_iterations_cost_the_same_whatever_the_problem(emulator: Emulator, problems: np.ndarray) -> None:
    counts = emulator.count([problems[0]])
    assert len(counts.iterate) == K and len(set(counts.iterate)) == 1
    # 81 products, each with a load or an addition of its own at least, and no more than a plain loop would take
    assert 2 * 81 < counts.iterate[0] < 12 * 81
    assert 0 < counts.end < counts.begin < counts.iterate[0]
    assert counts.total == counts.begin + K * counts.iterate[0] + counts.end
    assert counts.solve is not None and 0.8 * counts.total < counts.solve < 1.1 * counts.total
    assert emulator.count([problems[1]]) == emulator.count() == counts


def test_counts_do_not_depend_on_k(lista: Any, emulator: Emulator, tmp_path: Path) -> None:
    longer = emulate(replace(lista, iterations=11).artifact("cortex-m4"), tmp_path).count()
    counts = emulator.count()
    assert longer.iterate == counts.iterate[:1] * 11
    assert (longer.begin, longer.end, longer.stack_bytes) == (counts.begin, counts.end, counts.stack_bytes)


def test_block_counts_agree_with_single_steps(emulator: Emulator) -> None:
    """The same solve with a hook on each instruction, which does not see those whose condition fails."""
    unicorn, arm = pytest.importorskip("unicorn"), pytest.importorskip("unicorn.arm_const")
    uc = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
    uc.ctl_set_cpu_model(arm.UC_CPU_ARM_CORTEX_M4)
    uc.mem_map(0, 1 << 20)
    uc.mem_map(0x2000_0000, 1 << 20)
    for address, data in emulator.firmware.image:
        uc.mem_write(address, data)
    steps = [0]
    uc.hook_add(unicorn.UC_HOOK_CODE, lambda *_: steps.__setitem__(0, steps[0] + 1))
    found = []
    for entry in ("begin", *["iterate"] * K, "end"):
        steps[0] = 0
        uc.reg_write(arm.UC_ARM_REG_SP, 0x2001_0000)
        uc.reg_write(arm.UC_ARM_REG_LR, 0xF_0001)
        uc.emu_start(emulator.firmware.symbols[f"solver_firmware_{entry}"] | 1, 0xF_0000)
        found.append(steps[0])
    counts = emulator.count()
    assert (found[0], found[-1]) == (counts.begin, counts.end)  # nothing conditional in there
    conditional = 2 * 9  # the threshold and the sign of each element
    assert all(step <= count <= step + conditional for step, count in zip(found[1:-1], counts.iterate, strict=True))


def test_stack_is_measured(patched_iterate: Callable[[str, str], Artifact], emulator: Emulator, tmp_path: Path) -> None:
    small = emulator.count().stack_bytes
    assert 0 < small < 256
    # A frame of 1000 bytes more, every byte of it written.
    array = "volatile unsigned char b[1000]; for (int i = 0; i < 1000; i++) b[i] = 1; s->next[0] = (float)b[999];"
    large = emulate(patched_iterate("cortex-m4", array), tmp_path).count().stack_bytes
    assert 1000 <= large - small < 1100


def test_a_stack_that_runs_into_the_data_is_reported(
    patched_iterate: Callable[[str, str], Artifact], tmp_path: Path
) -> None:
    # Its length varies: one that the machine code tells is refused when building.
    array = "volatile unsigned char b[131072 - 200 + s->k]; for (int i = 0; i < 131072 - 200; i++) b[i] = 1;"
    deep = emulate(patched_iterate("stm32f407", array), tmp_path, "stm32f407")
    y = np.zeros(5, np.float32)
    message = r"solver on the emulated stm32f407: the stack of '\w+' took all of the 130\d\d\d bytes"
    with pytest.raises(TargetError, match=message):
        deep.solve([y])
    with pytest.raises(TargetError, match=message):
        deep.count([y])


FAULTS = {
    "*(volatile int *)0x60000000 = 1;": r"writes memory that is not there, address 0x60000000, in solver_iterate\+0x",
    "s->k = *(volatile int *)0x60000000;": r"reads memory that is not there, address 0x60000000, in solver_iterate\+0x",
    "*(volatile int *)0x100 = 1;": r"writes to flash, address 0x00000100, in solver_iterate\+0x",
    '__asm__ volatile("udf #0");': r"meets an undefined instruction in solver_iterate\+0x",
    '__asm__ volatile("svc #0");': r"raises an exception in solver_iterate\+0x",
    "void (*volatile f)(void) = (void (*)(void))0x60000001; f();": (
        r"jumps to memory that is not there, address 0x60000000, in 0x60000000, where there is no code, "
        r"last called from solver_iterate\+0x"
    ),
}


@pytest.mark.parametrize("statement", FAULTS)
def test_a_fault_is_reported_with_its_place(
    statement: str, patched_iterate: Callable[[str, str], Artifact], tmp_path: Path
) -> None:
    broken = emulate(patched_iterate("cortex-m4", statement), tmp_path)
    message = f"solver on the emulated cortex-m4: the program {FAULTS[statement]}"
    with pytest.raises(TargetError, match=message):
        broken.solve([np.zeros(5, np.float32)])
    with pytest.raises(TargetError, match=message):
        broken.count()


def test_a_program_that_does_not_end_is_stopped(
    patched_iterate: Callable[[str, str], Artifact], tmp_path: Path
) -> None:
    loop = patched_iterate("cortex-m4", "for (volatile int i = 0;; i++) {}")
    endless = emulate(loop, tmp_path, instruction_limit=100_000, time_limit=1.0)
    with pytest.raises(
        TargetError, match=r"'iterate' had not finished after 100000 instructions, it was in solver_iterate\+0x"
    ):
        endless.count()
    with pytest.raises(TargetError, match=r"'solve' had not finished after 1 s, it was in solver_\w+\+0x"):
        endless.solve([np.zeros(5, np.float32)])


def test_wrong_arrays_are_refused(emulator: Emulator) -> None:
    y = np.zeros(5, np.float32)
    with pytest.raises(InputError, match=r"inputs: 2 arrays; allowed: 1 \(y\)"):
        emulator.solve([y, y])
    with pytest.raises(InputError, match=r"input 'y': float64 of shape \(5,\); allowed: float32 of shape \(5,\)"):
        emulator.solve([y.astype(np.float64)])
    with pytest.raises(InputError, match=r"input 'y': float32 of shape \(1, 5\)"):
        emulator.count([y[None]])
    with pytest.raises(InputError, match="iterations: 5; allowed: 0 to 4"):
        emulator.solve([y], 5)
    with pytest.raises(InputError, match="iterations: -1"):
        emulator.solve([y], -1)


def test_strided_arrays_are_read_right(emulator: Emulator, problems: np.ndarray) -> None:
    wide = np.repeat(problems[0], 2)[::2]
    assert not wide.flags.c_contiguous
    np.testing.assert_array_equal(emulator.solve([wide])[0], emulator.solve([problems[0]])[0])


def test_threads_take_turns(emulator: Emulator, problems: np.ndarray) -> None:
    expected = [emulator.solve([y])[0] for y in problems]
    wrong: list[int] = []

    def run(i: int) -> None:
        wrong.extend(i for _ in range(20) if not np.array_equal(emulator.solve([problems[i]])[0], expected[i]))

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(problems))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_a_missing_emulator_is_named(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(description, "find_spec", lambda name: None if name == "unicorn" else object())
    with pytest.raises(ToolError, match="unicorn not installed.*pip install unicorn"):
        Emulator(emulator.firmware, emulator.artifact, emulator.target)
