from __future__ import annotations

import importlib
import importlib.util
import json
import os
import pickle
import re
import subprocess
import sys
import tempfile
import threading
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from unfoldc.errors import ToolError
from unfoldc.kernels.artifact import Artifact
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import Binary, LoopProgram
from unfoldc.kernels.printers.numba_cpu.prelude import PRELUDE
from unfoldc.kernels.printers.numba_cpu.printer import numba_sources
from unfoldc.kernels.schedule import schedule
from unfoldc.runtime import numba_build
from unfoldc.runtime.engine_numba import NumbaEngine
from unfoldc.runtime.numba_build import build_object


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


programs = _load(Path(__file__).with_name("loop_programs.py"))
GOLDEN = Path(__file__).parents[1] / "golden" / "lista_numba.txt"


def source(program: LoopProgram, batched: Any = True) -> str:
    return artifact(program, batched).sources["solver.py"]


def artifact(program: LoopProgram, batched: Any = True) -> Artifact:
    inputs, outputs = (programs.ports(program, names, batched) for names in (program.inputs, program.outputs))
    whole: Artifact = programs.artifact(program, "numba", numba_sources("solver", program, inputs, outputs), batched)
    return whole


def engine(program: LoopProgram, batched: Any = True) -> NumbaEngine:
    whole = artifact(program, batched)
    with tempfile.TemporaryDirectory() as folder:
        return NumbaEngine(whole, build_object(whole, Path(folder)))


def llvm(program: LoopProgram) -> str:
    """The module that the machine code is made from."""
    return numba_build._compile(source(program), "solver.py")[1]


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


def test_the_source_is_the_golden_file() -> None:
    text = source(programs.lista(peeled=True))
    if os.environ.get("UNFOLDC_UPDATE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def test_the_source_depends_on_the_program_alone() -> None:
    program = programs.awkward()[0]
    turned = replace(program, buffers=dict(reversed(program.buffers.items())))
    assert source(turned) == source(program)


def test_the_layout_has_room_for_each_address_and_constant() -> None:
    program = programs.awkward()[0]
    facts = json.loads(artifact(program).sources["solver_layout.json"])
    assert facts["addresses"] + 8 * len(facts["weights"]) <= facts["workspace_bytes"]
    starts = {name: (dtype, first) for dtype, _, entries in facts["weights"] for name, first in entries.items()}
    assert {name: dtype for name, (dtype, _) in starts.items()} == {
        name: values.dtype.name for name, values in program.constants.items()
    }
    for dtype, elements, entries in facts["weights"]:
        ends = [first + program.constants[name].size for name, first in sorted(entries.items(), key=lambda e: e[1])]
        assert all(end <= first for end, first in zip(ends, [*sorted(entries.values())[1:], elements], strict=True))
        assert all(first * np.dtype(dtype).itemsize % 64 == 0 for first in entries.values())


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


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_float_operators_keep_nan_and_infinity(dtype: str) -> None:
    program, inputs = programs.float_operators(dtype)
    agree(program, inputs, 1, rtol=2e-6 if dtype == "float32" else 1e-14)
    if dtype == "float32":
        assert not re.search(r"(fadd|fmul|fdiv|call) [a-z ]*double", llvm(program))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
def test_integer_operators(dtype: str) -> None:
    program, inputs = programs.integer_operators(dtype)
    agree(program, inputs, 1)


def test_casts() -> None:
    program, inputs = programs.casts(("bool", "float32", "float64", "int8", "int32", "int64", "uint8"))
    agree(program, inputs, 1)


def test_any_byte_but_zero_is_true() -> None:
    both = {"c": lambda a, b: Binary("and", a, b, "bool")}
    program = programs.elementwise({"a": ("bool", 4), "b": ("bool", 4)}, both, 4)
    a, b = np.array([[2, 2, 0, 1]], np.uint8), np.array([[1, 0, 1, 1]], np.uint8)
    (c,) = empty(program, 1)
    engine(program).solve([a.view(bool), b.view(bool)], [c], 1, 1)
    assert c.view(np.uint8).tolist() == [[1, 0, 0, 1]]


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


def test_loops_over_a_row_are_vector_code_that_loads_what_lies_in_a_row() -> None:
    program = schedule(programs.lista(m=64, n=256), programs.HOST)
    code = llvm(program)
    assert re.search(r"f(mul|add) [a-z ]*<\d+ x float>", code)
    assert "gather" not in code
    agree(program, {"y": np.random.default_rng(2).normal(size=64).astype(np.float32)}, 4, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(sys.platform != "linux", reason="object files of this system are not ELF")
def test_the_machine_code_calls_the_mathematical_library_alone(tmp_path: Path) -> None:
    program, _ = programs.float_operators("float32")
    path = build_object(artifact(program), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["solver.o"]
    with path.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        symbols = list(table.iter_symbols())
    outside = {s.name for s in symbols if s["st_shndx"] == "SHN_UNDEF" and s.name}
    assert {"sinf", "powf"} <= outside and not {"erff", "expf"} & outside
    assert not [name for name in outside if name.startswith(("Py", "NRT", "numba", "_"))]


def test_a_built_solver_runs_where_numba_is_not_installed(tmp_path: Path) -> None:
    program, y = programs.lista(), np.ones((1, 5), np.float32)
    whole = artifact(program)
    with (tmp_path / "solver").open("wb") as file:
        pickle.dump(replace(whole, weights=dict(whole.weights)), file)
    build_object(whole, tmp_path)
    code = """
import pickle, sys
from pathlib import Path
import numpy as np
sys.modules["numba"] = None
from unfoldc.runtime.engine_numba import NumbaEngine
solver = NumbaEngine(pickle.loads(Path("solver").read_bytes()), Path("solver.o"))
x = np.empty((1, 9), np.float32)
solver.solve([np.ones((1, 5), np.float32)], [x], 1, 4)
np.save("x.npy", x)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    here = np.empty((1, 9), np.float32)
    engine(program).solve([y], [here], 1, 4)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), here)


@pytest.mark.parametrize("content", [b"", b"no machine code", None], ids=["empty", "text", "missing"])
def test_a_file_that_is_no_object_file(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "solver.o").write_bytes(content)
    with pytest.raises(ToolError, match=r"solver\.o: cannot be loaded .* Compile the model again on this machine\.$"):
        NumbaEngine(artifact(programs.lista()), tmp_path / "solver.o")


def test_an_object_file_of_another_solver(tmp_path: Path) -> None:
    whole = artifact(programs.lista())
    path = build_object(whole, tmp_path)
    sources = {name.replace("solver", "other"): text for name, text in whole.sources.items()}
    with pytest.raises(
        ToolError, match="cannot be loaded \\(it lacks one of other_host_call, other_host_bound, other_host_profile\\)"
    ):
        NumbaEngine(replace(whole, symbol="other", sources=sources), path)


def test_machine_code_that_needs_more_than_the_c_library_is_refused(tmp_path: Path) -> None:
    whole = artifact(programs.lista())
    more = "\nold = solve\n\ndef solve(a, b, c, d, e, f):\n    print(a)\n"
    broken = replace(whole, sources={**whole.sources, "solver.py": whole.sources["solver.py"] + more})
    with pytest.raises(ToolError, match=r"^solver\.py: its machine code calls .*numba_gil_ensure, .*SVML"):
        build_object(broken, tmp_path)
    assert not list(tmp_path.iterdir())


def test_source_that_numba_refuses_ends_in_one_paragraph(tmp_path: Path) -> None:
    whole = artifact(programs.lista())
    broken = {"solver.py": whole.sources["solver.py"].replace("addresses[1]", "addresses.missing")}
    with warnings.catch_warnings(), pytest.raises(ToolError, match=r"^solver\.py: Numba refuses .* use backend='c'\.$"):
        warnings.simplefilter("error")  # Numba must not try again with Python objects
        build_object(replace(whole, sources=broken), tmp_path)


@pytest.mark.parametrize("package", ["numba.core.errors", "llvmlite.binding"])
def test_without_numba_the_message_says_what_to_install(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ToolError, match=r"^backend numba: Numba cannot be imported .* Install it: pip install numba\.$"
    ):
        build_object(artifact(programs.lista()), tmp_path)


def test_without_llvmlite_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = artifact(programs.lista())
    path = build_object(whole, tmp_path)
    monkeypatch.delattr(sys.modules["llvmlite"], "binding")
    monkeypatch.setitem(sys.modules, "llvmlite.binding", None)
    with pytest.raises(
        ToolError, match=r"^backend numba: llvmlite cannot be imported .* Install it: pip install numba\.$"
    ):
        NumbaEngine(whole, path)
