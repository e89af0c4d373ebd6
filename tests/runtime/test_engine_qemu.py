"""Solvers on QEMU's machines through the public calls: where asked for, and for the Cortex-M55 by itself."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from generated_c.programs import load
from tools_at_hand import needs_tool

import unfoldc
from unfoldc.errors import DeviceError, InputError, TargetError, ToolError
from unfoldc.runtime import Solver

pytestmark = needs_tool("qemu-system-arm", "qemu-system-riscv32")

K = 4


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small ADMM solver with division in it."""
    path = tmp_path_factory.mktemp("qemu") / "admm.onnx"
    onnx.save(load("kernels/conftest.py", "kernels_conftest").make("admm", K), path)
    return path


@pytest.fixture(scope="module")
def problem(path: Path) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    return {
        p.name: rng.standard_normal((3, *p.shape)).astype(p.dtype) for p in unfoldc.compile(path, "cortex-m4").inputs
    }


def same(a: Solver, b: Solver, problem: dict[str, np.ndarray]) -> bool:
    pairs = [(a.run(problem, k).outputs, b.run(problem, k).outputs) for k in range(1, K + 1)]
    return all(x[name].tobytes() == y[name].tobytes() for x, y in pairs for name in x)


@pytest.mark.parametrize("target", ["stm32f407", "esp32-c3"])
def test_the_second_opinion_is_the_first(path: Path, problem: dict[str, np.ndarray], target: str) -> None:
    """On a board, too, whose memories are elsewhere."""
    first, second = unfoldc.compile(path, target), unfoldc.compile(path, target, on="qemu")
    assert same(first, second, problem)
    profiles = [s.profile(problem) for s in (first, second)]
    rows = [[r.instructions for r in (p.begin, *p.iterations, p.end)] for p in profiles]
    assert rows[0] == rows[1]
    memory = [(p.flash_bytes, p.ram_bytes, p.stack_bytes, p.stack_bound_bytes) for p in profiles]
    assert memory[0] == memory[1]
    assert "run and counted by QEMU's" in str(profiles[1])


def test_a_cortex_m55_just_works(path: Path, problem: dict[str, np.ndarray], tmp_path: Path) -> None:
    solver, host = unfoldc.compile(path, "cortex-m55"), unfoldc.compile(path, backend="reference")
    for k in range(1, K + 1):
        found, wanted = solver.run(problem, k).outputs, host.run(problem, k).outputs
        for name, right in wanted.items():
            assert np.linalg.norm(found[name] - right) < 1e-5 * np.linalg.norm(right)
    profile = solver.profile(problem)
    assert profile.instructions == sum(r.instructions or 0 for r in (profile.begin, *profile.iterations, profile.end))
    assert profile.flash_bytes and profile.ram_bytes and profile.stack_bytes
    assert profile.stack_bound_bytes is not None and profile.stack_bound_bytes >= profile.stack_bytes
    assert "run and counted by QEMU's mps3-an547" in str(profile)
    loaded = unfoldc.load(solver.save(tmp_path / "saved"))
    assert same(solver, loaded, problem)


def test_double_precision_on_a_cortex_m7(tmp_path: Path) -> None:
    """unicorn's own model of it has none."""
    path = tmp_path / "float64.onnx"
    models = load("kernels/conftest.py", "kernels_conftest")
    model = models.make("float64", K)
    onnx.save(model, path)
    solver, first = unfoldc.compile(path, "cortex-m7", on="qemu"), unfoldc.compile(path, "cortex-m7")
    feeds = {port.name: models.feeds(model, 1)[port.name] for port in solver.inputs}
    wanted = unfoldc.compile(path, backend="reference").run(feeds).outputs
    for name, x in solver.run(feeds).outputs.items():
        np.testing.assert_allclose(x, wanted[name], rtol=1e-11)
    assert same(first, solver, feeds)
    assert first.profile(feeds).instructions == solver.profile(feeds).instructions


def test_threads_take_turns(path: Path, problem: dict[str, np.ndarray]) -> None:
    solver = unfoldc.compile(path, "cortex-m55")
    each = [{name: array[i : i + 1] for name, array in problem.items()} for i in range(3)]
    wanted = [solver.run(one).outputs for one in each]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(10):
            found = solver.run(each[i]).outputs
            wrong.extend(i for name in found if found[name].tobytes() != wanted[i][name].tobytes())

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_after_a_failure_the_next_call_starts_another_machine(path: Path, problem: dict[str, np.ndarray]) -> None:
    solver = unfoldc.compile(path, "cortex-m4", on="qemu")
    wanted = solver.run(problem).outputs
    engine: Any = solver._engine
    (device,) = engine._devices
    device.process.kill()
    with pytest.raises(DeviceError, match="QEMU was ended by SIGKILL"):
        solver.run(problem)
    assert not engine._devices and device.process.returncode is not None
    assert all(np.array_equal(wanted[name], x) for name, x in solver.run(problem).outputs.items())
    (device,) = engine._devices
    engine.close()
    assert device.process.returncode == 0


def test_the_machine_ends_with_the_solver(path: Path, problem: dict[str, np.ndarray]) -> None:
    solver = unfoldc.compile(path, "cortex-m4", on="qemu")
    solver.run(problem)
    engine: Any = solver._engine
    process = engine._devices[0].process
    del solver, engine
    assert process.returncode == 0


def test_a_read_only_folder_will_do(path: Path, problem: dict[str, np.ndarray], tmp_path: Path) -> None:
    folder = unfoldc.compile(path, "cortex-m4").save(tmp_path / "saved")
    shutil.rmtree(folder / "qemu", ignore_errors=True)
    (folder / "qemu").touch()  # in the way of a folder, whatever rights the test has
    solver = unfoldc.load(folder, on="qemu?timeout=60")
    assert all(np.isfinite(x).all() for x in solver.run(problem).outputs.values())


def test_what_cannot_run_there_is_refused(path: Path, problem: dict[str, np.ndarray]) -> None:
    with pytest.raises(TargetError, match="cortex-a53 on QEMU: .* allowed: cortex-m0"):
        unfoldc.compile(path, "cortex-a53", on="qemu")
    with pytest.raises(TargetError, match="host on QEMU: .* allowed: cortex-m0"):
        unfoldc.compile(path, on="qemu")
    with pytest.raises(InputError, match="qemu has no option 'speed'"):
        unfoldc.compile(path, "cortex-m4", on="qemu?speed=1")


def test_a_missing_qemu_is_named(path: Path, problem: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    solver = unfoldc.compile(path, "cortex-m55")
    monkeypatch.setattr("unfoldc.targets.tools.shutil.which", lambda *_, **__: None)
    with pytest.raises(ToolError, match="qemu-system-arm not installed.*apt-get install qemu-system-arm"):
        solver.run(problem)
