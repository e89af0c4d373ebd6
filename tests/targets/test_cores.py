"""The small solver on every core that unicorn has: answers, counts, start-up code, alignment, stack."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from unfoldc.targets.boards import all_targets, find_target
from unfoldc.targets.emulator import Emulator
from unfoldc.targets.firmware import build_firmware
from unfoldc.targets.machine import Machine

TARGETS = [t.name for t in all_targets() if t.core is not None and t.core.unicorn_model]
CORES = [name for name in TARGETS if find_target(name).clock_hz is None]
BOARDS = [name for name in TARGETS if name not in CORES]
K = 4


@pytest.fixture(scope="module")
def emulator(lista: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    @cache
    def make(name: str) -> Emulator:
        artifact, target = lista.artifact(name), find_target(name)
        folder = tmp_path_factory.mktemp(name)
        return Emulator(build_firmware(artifact, target, folder, strict=True), artifact, target)

    return make


def test_every_architecture_and_word_size_is_there() -> None:
    found = {(t.core.architecture, t.spec.word_bits) for t in map(find_target, CORES) if t.core is not None}
    assert found == {("thumb", 32), ("riscv", 32), ("riscv", 64), ("aarch64", 64)} and len(CORES) == 9


@pytest.mark.parametrize("core", CORES)
def test_answers_are_numpys(lista: Any, emulator: Any, problems: np.ndarray, core: str) -> None:
    for k in (None, *range(K + 1)):
        for y in problems[:2]:
            (x,) = emulator(core).solve([y], k)
            np.testing.assert_allclose(x, lista.solve(y, k), atol=1e-6)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_keep_their_meaning(emulator: Any, core: str, value: float) -> None:
    """In software floating point, too."""
    assert (~np.isfinite(emulator(core).solve([np.array([value, 0, 0, 0, 0], np.float32)], 1)[0])).all()


@pytest.mark.parametrize("board", BOARDS)
def test_boards_give_the_bits_and_counts_of_their_core(emulator: Any, problems: np.ndarray, board: str) -> None:
    target = find_target(board)
    assert target.core is not None
    there, here = emulator(target.core.name), emulator(board)
    np.testing.assert_array_equal(here.solve([problems[0]])[0], there.solve([problems[0]])[0])
    counts, other = here.count([problems[0]]), there.count([problems[0]])
    assert (counts.begin, counts.iterate, counts.end) == (other.begin, other.iterate, other.end)
    assert counts.mixes == other.mixes
    assert here.firmware.ram_bytes == there.firmware.ram_bytes


@pytest.mark.parametrize("core", CORES)
def test_counts_are_those_of_single_steps(emulator: Any, problems: np.ndarray, core: str) -> None:
    """A hook on each instruction sees as many, but in Thumb code those whose condition fails."""
    e = emulator(core)
    machine = Machine(e.firmware, e.target, counting=False, instruction_limit=10**7, time_limit=60.0)
    machine.write(e.firmware.symbols["solver_firmware_input_0"], problems[0].tobytes())
    uc, steps = machine._uc, [0]
    uc.ctl_flush_tb()  # code translated without the hook would never call it
    uc.hook_add(machine._unicorn.UC_HOOK_CODE, lambda *_: steps.__setitem__(0, steps[0] + 1))
    found = []
    for entry in ("begin", *["iterate"] * K, "end"):
        steps[0] = 0
        machine.call(entry)
        found.append(steps[0])
    counts = e.count([problems[0]])
    counted = [counts.begin, *counts.iterate, counts.end]
    conditional = 2 * 9 * K if e.target.core.architecture == "thumb" else 0
    assert all(step <= count <= step + conditional for step, count in zip(found, counted, strict=True))


@pytest.mark.parametrize(
    ("core", "register", "mask"),
    [
        ("cortex-a53", "CPACR_EL1", 3 << 20),
        ("cortex-a72", "CPACR_EL1", 3 << 20),
        ("rv32imfc", "MSTATUS", 3 << 13),
        ("rv64gc", "MSTATUS", 3 << 13),
    ],
)
def test_the_start_up_code_switches_the_floating_point_unit_on(
    emulator: Any, core: str, register: str, mask: int
) -> None:
    """`test_machine.py` has the Cortex-M4."""
    e = emulator(core)
    machine = Machine(e.firmware, e.target, counting=False, instruction_limit=10**7, time_limit=60.0)
    prefix = machine._processor.pc.removesuffix("PC")
    assert machine._read_register(prefix + register) & mask
    # It was off before: a processor that nothing has run on.
    fresh = machine._unicorn.Uc(*(sum(getattr(machine._unicorn, n) for n in names) for names in _architecture(machine)))
    assert not fresh.reg_read(getattr(machine._names, prefix + register)) & mask


def _architecture(machine: Machine) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return (machine._processor.architecture,), machine._processor.modes


@pytest.mark.parametrize("core", CORES)
def test_every_access_to_memory_is_aligned(emulator: Any, problems: np.ndarray, core: str) -> None:
    """The M0 and small RISC-V processors stop at one that is not, which the emulator would let pass."""
    e = emulator(core)
    machine = Machine(e.firmware, e.target, counting=False, instruction_limit=10**7, time_limit=60.0)
    machine.write(e.firmware.symbols["solver_firmware_input_0"], problems[0].tobytes())
    u, seen, wrong = machine._unicorn, [0], []

    def access(uc: Any, kind: int, address: int, size: int, value: int, data: Any) -> None:
        seen[0] += 1
        if address % min(size, 4):  # two words may be stored at once, at any word
            wrong.append((hex(address), size))

    machine._uc.ctl_flush_tb()
    machine._uc.hook_add(u.UC_HOOK_MEM_READ | u.UC_HOOK_MEM_WRITE, access)
    machine.call("solve")
    assert seen[0] > 100 and not wrong


@pytest.mark.parametrize("core", CORES)
def test_roomy_memories_are_not_allocated(emulator: Any, core: str) -> None:
    import resource

    e = emulator(core)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    machine = Machine(e.firmware, e.target, counting=False, instruction_limit=10**7, time_limit=60.0)
    machine.call("solve")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB, of 256 MiB
    assert e.target.ram.length == 256 << 20


@pytest.mark.parametrize("core", CORES)
def test_the_bound_of_the_stack_is_close_to_what_was_measured(emulator: Any, core: str) -> None:
    e = emulator(core)
    measured, bound = e.count().stack_bytes, e.firmware.stack_bound_bytes
    assert bound is not None and 0 < measured <= bound <= measured + 64


@pytest.mark.parametrize("core", CORES)
def test_mixes_and_cycles_belong_to_the_instructions(emulator: Any, core: str) -> None:
    counts = emulator(core).count()
    assert [m.instructions for m in counts.mixes] == [counts.begin, *counts.iterate, counts.end]
    body = counts.mixes[1].counts
    hard = find_target(core).core.hard_float  # type: ignore[union-attr]
    assert any(name.startswith(("float", "vector")) for name in body) == hard
    products = body.get("float multiply", 0) + body.get("float multiply-add", 0) + 4 * body.get("vector", 0)
    assert products >= 81 or not hard
    assert body.get("branch not taken", 0) <= body.get("branch taken", 0) + counts.iterate[0] // 8
    if counts.cycles is not None:
        assert len(counts.cycles) == K + 2
        assert all(0.25 < c / n < 3 for c, n in zip(counts.cycles, [counts.begin, *counts.iterate], strict=False))


@pytest.mark.parametrize("core", ["cortex-m0", "cortex-a53", "rv32imfc", "rv64gc"])
def test_functions_of_the_compilers_library_are_linked(
    patched_iterate: Any, lista: Any, core: str, tmp_path: Any
) -> None:
    """Tables of constants included, which lie where the memory map says."""
    use = "float sinf(float); float expf(float); s->x[0] = expf(sinf(100.0f * s->y[0]));"
    artifact, target, y = patched_iterate(core, use), find_target(core), np.linspace(0.3, 0.9, 5, dtype=np.float32)
    (found,) = Emulator(build_firmware(artifact, target, tmp_path), artifact, target).solve([y], 1)
    x = np.zeros(9)
    x[0] = np.exp(np.sin(np.float64(np.float32(100) * y[0])))
    a = lista.W2.astype(np.float64) @ x + lista.W1.astype(np.float64) @ y
    right = np.sign(a) * np.maximum(np.abs(a) - float(lista.theta[0]), 0)
    np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-6)


def test_hardware_counts_for_what_it_should(emulator: Any) -> None:
    """Floating point in hardware saves a factor, and so on; else a flag was lost."""
    steps = {core: emulator(core).count().iterate[0] for core in CORES}
    assert steps["cortex-m0"] > 10 * steps["cortex-m4"] and steps["rv32imc"] > 10 * steps["rv32imfc"]
    assert steps["cortex-m33"] <= steps["cortex-m4"] and steps["cortex-m7"] < steps["cortex-m4"]
    assert max(steps["cortex-a53"], steps["cortex-a72"]) < 0.7 * steps["cortex-m7"]
    assert 0.8 < steps["rv64gc"] / steps["rv32imfc"] < 1.25
