"""TVM's objects on every core: linked without its runtime, run in the emulator, with the answers of the reference."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generated_c.programs import load
from tools_at_hand import needs_tool

import unfoldc
from unfoldc.kernels.pipeline import compile_onnx
from unfoldc.targets.boards import all_targets, find_target

pytest.importorskip("tvm")
models = load("kernels/conftest.py", "kernels_conftest")
CORES = [t.name for t in all_targets() if t.core is not None and t.clock_hz is None]
TOLERANCE = 1e-5  # relative to the norm of the answer


def saved(folder: Path, power: bool) -> Path:
    """Two alike iterations: a product and a threshold, and one of each function that bare metal may lack."""
    g = models.Graph()
    y = g.input("y", "batch", 7)
    w = g.weight("w", models.random("w", 7, 7))
    x = y
    for k in range(2):
        x = g.soft(g("Add", g("MatMul", x, w), y), g.weight("theta", [0.05]))
        for operator in ("Tanh", "Erf", "Exp"):
            x = g(operator, x)
        x = g("Log", g("Add", g("Abs", x), g.weight("one", [1.5])))
        fraction = g("Sub", x, g("Round", g("Mul", x, g.weight("four", [4.0]))))
        fraction = g("Abs", fraction)
        fraction = g("Pow", fraction, g.weight("p", [1.3])) if power else fraction
        x = g("Add", fraction, g("Sqrt", x), out=f"iteration.{k}.x")
    models.onnx.save(g.model(x), folder / "functions.onnx")
    return folder / "functions.onnx"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without powers, which compute in double precision: unicorn's Cortex-M7 does not know that."""
    return saved(tmp_path_factory.mktemp("cores"), power=False)


def check(path: Path, core: str) -> None:
    """The answer to one problem, and NaN."""
    y = np.random.default_rng(0).standard_normal((1, 7)).astype(np.float32)
    (right,) = unfoldc.compile(path, backend="reference").run({"y": y}).outputs.values()
    solver = unfoldc.compile(path, target=core, backend="tvm")
    (found,) = solver.run({"y": y}).outputs.values()
    assert np.linalg.norm(found - right) <= TOLERANCE * np.linalg.norm(right)
    (broken,) = solver.run({"y": np.full_like(y, np.nan)}).outputs.values()
    assert np.isnan(broken).all()
    if core != "cortex-m55":  # whose code nobody reads yet
        assert solver.stack_bound_bytes


def cores() -> list[Any]:
    marks = {"cortex-m55": needs_tool("qemu-system-arm")}
    return [pytest.param(core, marks=[marks[core]] if core in marks else []) for core in CORES]


@pytest.mark.parametrize("core", cores())
def test_answers_on_every_core_are_the_reference_s(path: Path, core: str) -> None:
    check(path, core)


def test_there_is_a_core_of_every_kind() -> None:
    found = [find_target(name).core for name in CORES]
    assert {core.architecture for core in found if core} == {"thumb", "riscv", "aarch64"} and len(CORES) == 10


def test_functions_that_bare_metal_lacks_are_beside_the_solver_there(tmp_path: Path) -> None:
    path = saved(tmp_path, power=True)
    metal = compile_onnx(path, find_target("cortex-m4").spec, "tvm").sources
    host = compile_onnx(path, find_target("host").spec, "tvm").sources
    for name in ("solver_rintf", "solver_powf"):
        assert f'"{name}"' in metal["solver.tir"] and f"float {name}(float a" in metal["solver.c"]
        assert name not in host["solver.tir"]
    check(path, "cortex-m4")


@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m4", "rv32imc", "rv32imfc", "rv64gc", "cortex-a53"])
def test_objects_say_whose_they_are(path: Path, core: str, tmp_path: Path) -> None:
    """Word size, processor, and on RISC-V the convention for floats; no function of a TVM runtime is asked for."""
    from unfoldc.targets.tvm_build import build_objects

    target = find_target(core)
    assert target.core is not None
    for file in build_objects(compile_onnx(path, target.spec, "tvm"), tmp_path, target.core):
        data = file.read_bytes()
        wide = target.spec.word_bits == 64
        machine = {"thumb": 40, "riscv": 243, "aarch64": 183}[target.core.architecture]
        assert data[:5] == b"\x7fELF" + bytes([1 + wide]) and struct.unpack_from("<H", data, 18)[0] == machine
        (flags,) = struct.unpack_from("<I", data, 48 if wide else 36)
        if target.core.architecture == "riscv":
            assert flags >> 1 & 3 == {"rv32imc": 0, "rv32imfc": 1, "rv64gc": 2}[core]
        assert b"TVM" not in data.split(b".strtab")[-1] and b"__TVMBackend" not in data


def test_what_is_no_script_of_ours_is_refused() -> None:
    from unfoldc.targets.tvm_script import read_script

    head = "@I.ir_module\nclass Module:\n    @T.prim_func(s_tir=True)\n    def f(x: T.handle('float32', 'global')):\n"
    with pytest.raises(ValueError, match="line 5 is nothing that is printed"):
        read_script(f"{head}        while True:\n            pass\n")
