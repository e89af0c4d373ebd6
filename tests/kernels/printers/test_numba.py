from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unfoldc.errors import ToolError
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.printers.numba_cpu.prelude import PRELUDE
from unfoldc.kernels.printers.numba_cpu.printer import numba_sources
from unfoldc.runtime.engine_numba import NumbaEngine


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


programs = _load(Path(__file__).with_name("loop_programs.py"))
GOLDEN = Path(__file__).parents[1] / "golden" / "lista_numba.txt"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("unfoldc_numba_")]:
        del sys.modules[name]


def source(program: LoopProgram, batched: Any = True) -> str:
    inputs, outputs = (programs.ports(program, names, batched) for names in (program.inputs, program.outputs))
    return numba_sources("solver", program, inputs, outputs)["solver.py"]


def engine(program: LoopProgram, batched: Any = True) -> NumbaEngine:
    return NumbaEngine(programs.artifact(program, "numba", {"solver.py": source(program, batched)}, batched))


def empty(program: LoopProgram, batch: int) -> list[np.ndarray]:
    return [np.empty((batch, *program.buffers[o].shape), program.buffers[o].dtype) for o in program.outputs]


def agree(
    program: LoopProgram, inputs: dict[str, np.ndarray], iterations: int, rtol: float = 0, atol: float = 0
) -> None:
    """The printed program against the interpreter, for one problem."""
    want = run(program, inputs, iterations)
    outputs = empty(program, 1)
    engine(program).solve([inputs[name][None] for name in program.inputs], outputs, 1, iterations)
    for name, got in zip(program.outputs, outputs, strict=True):
        np.testing.assert_allclose(got[0], want[name], err_msg=name, rtol=rtol, atol=atol)


def module_of(cache: Path) -> Any:
    (name,) = (name for name in sys.modules if name.startswith("unfoldc_numba_"))
    return sys.modules[name]


def test_the_source_is_the_golden_file() -> None:
    text = source(programs.lista(peeled=True))
    if os.environ.get("UNFOLDC_UPDATE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def test_the_source_depends_on_the_program_alone() -> None:
    program = programs.awkward()[0]
    turned = replace(program, buffers=dict(reversed(program.buffers.items())))
    assert source(turned) == source(program)


def test_no_text_of_the_model_leaves_its_comment() -> None:
    assert "# from begin_W1_y______\n" in source(programs.lista())


@pytest.mark.parametrize(("dtype", "peeled"), [("float32", False), ("float64", True)])
def test_every_number_of_iterations_of_a_batch(dtype: str, peeled: bool) -> None:
    program = programs.lista(dtype, peeled)
    y = np.random.default_rng(0).normal(size=(3, 5)).astype(dtype)
    solver = engine(program)
    for k in range(5):
        x = np.full((3, 9), np.nan, dtype)
        solver.solve([y], [x], 3, k)
        want = [run(program, {"y": one}, k)["x"] for one in y]
        np.testing.assert_allclose(x, want, rtol=1e-5 if dtype == "float32" else 1e-13, atol=1e-7)


def test_an_input_without_the_batch_axis_is_shared() -> None:
    a = np.arange(6, dtype=np.float32)
    program = programs.elementwise(
        {"a": ("float32", 6), "b": ("float32", 6)}, {"c": lambda a, b: programs.add(a, b)}, 6
    )
    b, c = np.stack([a, 10 * a]), np.empty((2, 6), np.float32)
    engine(program, {"a": False, "b": True, "c": True}).solve([a, b], [c], 2, 1)
    np.testing.assert_array_equal(c, a + b)


def test_names_axes_types_and_several_ports() -> None:
    program, inputs = programs.awkward()
    for k in range(4):
        agree(program, inputs, k, rtol=1e-6)


def test_no_index_leads_outside_an_array() -> None:
    program, inputs, want = programs.gather()
    (x,) = empty(program, 1)
    engine(program).solve([inputs[name][None] for name in program.inputs], [x], 1, 1)
    np.testing.assert_array_equal(x[0], want)


def test_scratch_buffers_in_the_same_place() -> None:
    program, inputs = programs.overlaid()
    agree(program, inputs, 2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_float_operators_keep_nan_and_infinity(dtype: str, cache: Path) -> None:
    program, inputs = programs.float_operators(dtype)
    agree(program, inputs, 1, rtol=2e-6 if dtype == "float32" else 1e-14)
    code = module_of(cache).solve.inspect_llvm()
    if dtype == "float32":
        assert not re.search(r"(fadd|fmul|fdiv|call) [a-z ]*double", "".join(code.values()))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
def test_integer_operators(dtype: str) -> None:
    program, inputs = programs.integer_operators(dtype)
    agree(program, inputs, 1)


def test_casts() -> None:
    program, inputs = programs.casts(("bool", "float32", "float64", "int8", "int32", "int64", "uint8"))
    agree(program, inputs, 1)


def test_profile_adds_ticks_of_the_parts_that_ran() -> None:
    program = programs.lista(peeled=True)
    solver = engine(program)
    y = np.random.default_rng(0).normal(size=(2, 5)).astype(np.float32)
    x, plain, ticks = np.empty((2, 9), np.float32), np.empty((2, 9), np.float32), np.zeros(6, np.uint64)
    solver.profile([y], [x], 2, 3, ticks)
    solver.solve([y], [plain], 2, 3)
    np.testing.assert_array_equal(x, plain)
    assert (ticks > 0).tolist() == [True, True, True, True, False, True]
    once = ticks.copy()
    solver.profile([y], [x], 2, 4, ticks)
    assert (ticks > once).all()


@pytest.mark.parametrize(
    ("triple", "instruction"), [("aarch64-linux-gnu", "CNTVCT_EL0"), ("x86_64-linux-gnu", "rdtsc")]
)
def test_stamps_read_a_counter_that_programs_may_read(triple: str, instruction: str) -> None:
    binding, ir = importlib.import_module("llvmlite.binding"), importlib.import_module("llvmlite.ir")
    namespace: dict[str, Any] = {}
    exec(PRELUDE, namespace)
    module = ir.Module()
    module.triple = triple
    builder = ir.IRBuilder(ir.Function(module, ir.FunctionType(ir.IntType(64), []), "f").append_basic_block())
    _, generate = namespace["counter"]._defn(None)
    builder.ret(generate(None, builder, None, ()))
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    machine = binding.Target.from_triple(triple).create_target_machine()
    assert instruction in machine.emit_assembly(binding.parse_assembly(str(module)))


def test_a_batch_of_zero_does_nothing() -> None:
    solver, ticks = engine(programs.lista()), np.zeros(6, np.uint64)
    nothing = np.empty((0, 5), np.float32), np.empty((0, 9), np.float32)
    solver.profile([nothing[0]], [nothing[1]], 0, 4, ticks)
    assert not ticks.any()


def test_an_array_that_may_not_be_written_is_an_input_like_any_other() -> None:
    y, x = np.ones((1, 5), np.float32), [np.empty((1, 9), np.float32) for _ in range(2)]
    solver = engine(programs.lista())
    solver.solve([y], [x[0]], 1, 4)
    y.flags.writeable = False
    solver.solve([y], [x[1]], 1, 4)
    np.testing.assert_array_equal(x[0], x[1])


def test_threads_do_not_disturb_each_other() -> None:
    solver = engine(programs.lista(m=25, n=143))
    ys = np.random.default_rng(1).normal(size=(4, 60, 25)).astype(np.float32)
    want = np.empty((4, 60, 143), np.float32)
    for y, x in zip(ys, want, strict=True):
        solver.solve([y], [x], 60, 4)
    got = np.empty((4, 20, 60, 143), np.float32)

    def work(i: int) -> None:
        for x in got[i]:
            solver.solve([ys[i]], [x], 60, 4)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(4):
        assert (got[i] == want[i]).all()


def test_machine_code_comes_from_the_cache_the_second_time(cache: Path) -> None:
    program = programs.lista()
    engine(program)
    name = module_of(cache).__name__
    assert not module_of(cache).solve.stats.cache_hits
    engine(program)
    assert not module_of(cache).solve.stats.cache_hits  # one import per process
    del sys.modules[name]
    engine(program)
    assert module_of(cache).solve.stats.cache_hits
    agree(program, {"y": np.ones(5, np.float32)}, 4, rtol=1e-5)
    (folder,) = (cache / "unfoldc" / "numba").iterdir()
    assert {p.suffix for p in folder.rglob("*") if p.is_file()} == {".py", ".nbi", ".nbc"}
    assert not [p for p in cache.rglob("*") if p.is_file() and not p.is_relative_to(folder)]


def test_a_damaged_source_in_the_cache_is_written_again(cache: Path) -> None:
    engine(programs.lista())
    (path,) = cache.rglob("*.py")
    path.write_text(path.read_text()[:100])
    del sys.modules[module_of(cache).__name__]
    engine(programs.lista())
    assert path.read_text() == source(programs.lista())


def test_without_a_place_to_write_the_solver_works_all_the_same(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache / "file"))
    agree(programs.lista(), {"y": np.ones(5, np.float32)}, 4, rtol=1e-5)


def test_source_that_numba_refuses_ends_in_one_paragraph() -> None:
    program = programs.lista()
    broken = source(program).replace("addresses[1]", "addresses.missing")
    with pytest.raises(ToolError, match=r"unfoldc_numba_\w+\.py: Numba refuses it .* use backend='c'\.$"):
        NumbaEngine(programs.artifact(program, "numba", {"solver.py": broken}))


def test_without_numba_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba.core.registry", None)
    with pytest.raises(
        ToolError, match=r"^backend numba: Numba cannot be imported .* Install it: pip install numba\.$"
    ):
        engine(programs.lista())
