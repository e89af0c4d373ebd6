"""Kernels that TVM makes for GPUs, run on the processor lane by lane."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu_kernels.on_processor import ORDERS, Kernel, Library, kernel

from unfoldc.kernels.gpu import GRID, GpuChoices, map_program
from unfoldc.kernels.gpu.parts import Barrier, InStep, Parts
from unfoldc.kernels.gpu_build import cuda_program
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import Assign, Binary, Buffer, Const, For, Let, Load, Local, LoopProgram, Step, Store, Var
from unfoldc.kernels.lower import lower
from unfoldc.kernels.passes.repeat_nests import repeat_nests
from unfoldc.kernels.pipeline import optimise
from unfoldc.kernels.printers.cuda import CudaForm, cuda_sources
from unfoldc.kernels.printers.tvm_cuda import tvm_cuda_sources

pytest.importorskip("tvm")


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


programs = _load(Path(__file__).with_name("loop_programs.py"))
CHOICES = (
    GpuChoices(1, 3), GpuChoices(8, 4), GpuChoices(32), GpuChoices(64), GpuChoices(GRID, threads=8),
    GpuChoices(2, 2, private=0), GpuChoices(4, private=0, shared=0), GpuChoices(4, 2, private=0, shared=0),
)  # fmt: skip
TYPES = ("bool", "float32", "float64", "int8", "int32", "int64", "uint8")
NORMED = ((1, 200), (8, 200), (32, 4000), (64, 8000))  # lanes and terms: all lanes are one team
INTEGERS = ("int8", "uint8", "int32", "int64")


def named(choices: GpuChoices) -> str:
    return f"lista_{choices.group}_{choices.problems}_{choices.private}_{choices.shared}"


def prepared(name: str, program: LoopProgram, choices: GpuChoices, batched: Any = True) -> Kernel:
    ports = tuple(programs.ports(program, names, batched) for names in (program.inputs, program.outputs))
    return kernel(program, (ports[0], ports[1]), choices, name)


def sums(a: tuple[str, int] = ("float32", 6)) -> LoopProgram:
    return programs.elementwise({"a": a, "b": a}, {"c": lambda a, b: programs.add(a, b)}, 6)


def normed(n: int) -> LoopProgram:
    """x = y / sum of y^2: a sum that all lanes of a group are a team for, and then read."""
    y = Load("y", (Var("j"),), "float32")
    acc = Local("acc", "float32")
    total = For("j", n, (Assign("acc", programs.add(acc, programs.mul(y, y))),))
    quotient = programs.binary("div", Load("y", (Var("i"),), "float32"), acc)
    end = (Let("acc", Const(0.0, "float32"), True), total, For("i", n, (Store("x", (Var("i"),), quotient),)))
    buffers = {"y": Buffer("y", "float32", (n,), "input"), "x": Buffer("x", "float32", (n,), "output")}
    return LoopProgram(buffers, {}, ("y",), ("x",), (), (Step(0, 1, ()),), end)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """All kernels of the quick tests: one run of TVM, one of the C++ compiler."""
    kernels = [prepared(named(c), programs.lista(peeled=True), c) for c in CHOICES]
    for group in (1, 4, 64):
        kernels.append(prepared(f"awkward_{group}", programs.awkward()[0], GpuChoices(group)))
    for group in (1, 4, GRID):
        kernels.append(prepared(f"shared_{group}", sums(), GpuChoices(group), {"a": False, "b": True, "c": True}))
    both = {"c": lambda a, b: Binary("and", a, b, "bool")}
    kernels += [
        prepared("double", programs.lista("float64"), GpuChoices(8, 4)),
        prepared("overlaid", programs.overlaid()[0], GpuChoices(8, 2)),
        prepared("gather", programs.gather()[0], GpuChoices(4)),
        prepared("staged_gather", programs.gather()[0], GpuChoices(1, 3)),
        prepared("powers", programs.powers(), GpuChoices(8, 4, private=0)),
        prepared("staged_powers", programs.powers(), GpuChoices(2, 3)),
        prepared("floats", programs.float_operators("float32")[0], GpuChoices(4)),
        prepared("integers", programs.integer_operators("int32")[0], GpuChoices(4)),
        prepared("casts", programs.casts(TYPES)[0], GpuChoices(2)),
        prepared("bytes", programs.elementwise({"a": ("bool", 4), "b": ("bool", 4)}, both, 4), GpuChoices(4)),
        prepared("teams", programs.lista(m=40, n=3), GpuChoices(16, 2)),
        *(prepared(f"normed_{group}", normed(n), GpuChoices(group, 1 + (group < 32))) for group, n in NORMED),
        prepared("more_teams", programs.lista(m=300, n=2), GpuChoices(128)),
    ]
    return Library(kernels, tmp_path_factory.mktemp("tvm_cuda"))


def agree(
    library: Library, name: str, inputs: dict[str, np.ndarray], iterations: int | None = None, rtol: float = 1e-5,
    order: int = 0,
) -> None:  # fmt: skip
    """Kernels against the interpreter of loops; the inputs have a batch in front."""
    program = next(k for k in library.kernels if k.name == name).program
    batch = len(next(iter(inputs.values())))
    found, _ = library.launch(name, inputs, batch, iterations, order=order)
    for problem in range(batch):
        wanted = run(program, {port: value[problem] for port, value in inputs.items()}, iterations)
        for port, right in wanted.items():
            scale = max(1.0, float(np.abs(right[np.isfinite(right)]).max(initial=0)))
            np.testing.assert_allclose(found[port][problem], right, rtol, rtol * scale, err_msg=f"{name} {port}")


def several(inputs: dict[str, np.ndarray], batch: int = 2) -> dict[str, np.ndarray]:
    return {name: np.stack([value] * batch) for name, value in inputs.items()}


def drawn(batch: int, n: int) -> dict[str, np.ndarray]:
    return {"y": np.random.default_rng(0).normal(size=(batch, n)).astype(np.float32)}


@pytest.mark.parametrize("choices", CHOICES, ids=named)
def test_batches_that_do_not_fill_the_blocks_in_every_order(library: Library, choices: GpuChoices) -> None:
    for order in ORDERS:
        agree(library, named(choices), drawn(11, 5), order=order)
    for batch, iterations in ((1, 2), (2, 1), (5, 3)):
        agree(library, named(choices), drawn(batch, 5), iterations)


@pytest.mark.parametrize(("name", "n"), [("teams", 40), ("more_teams", 300)])
def test_sums_that_lanes_share(library: Library, name: str, n: int) -> None:
    """NaN reaches all lanes of a team."""
    code = library.text[library.text.index(f"solve_{name}(") :]
    assert "__shfl_xor_sync((uint)4294967295, " in code
    for order in ORDERS:
        agree(library, name, drawn(5, n), order=order)
    y = drawn(3, n)
    y["y"][1, 17] = np.nan
    agree(library, name, y)


@pytest.mark.parametrize(("group", "n"), NORMED)
def test_a_sum_of_all_lanes(library: Library, group: int, n: int) -> None:
    y = drawn(3, n)
    y["y"][1, 1] = np.nan
    for order in ORDERS[:: 2 if n > 1000 else 1]:
        agree(library, f"normed_{group}", y, order=order)
    text = function(library, f"normed_{group}")
    assert ("__shfl_xor_sync" in text) == (group > 1)
    assert group == 1 or text.count("__syncthreads") == 2 * (group > 32)


def test_nan_and_infinity_of_one_problem_stay_with_it(library: Library) -> None:
    y = np.ones((4, 5), np.float32)
    y[1, 2], y[2, 0] = np.nan, np.inf
    for choices in CHOICES:
        agree(library, named(choices), {"y": y})
    agree(library, "double", {"y": y.astype(np.float64)}, rtol=1e-13)


@pytest.mark.parametrize("group", [1, 4, 64])
def test_names_axes_types_and_several_ports(library: Library, group: int) -> None:
    for k in (0, 3):
        agree(library, f"awkward_{group}", several(programs.awkward()[1]), k)


def test_scratch_buffers_have_places_of_their_own(library: Library) -> None:
    agree(library, "overlaid", several(programs.overlaid()[1], 3))


@pytest.mark.parametrize("name", ["gather", "staged_gather"])
def test_no_index_leads_outside_an_array(library: Library, name: str) -> None:
    _, inputs, wanted = programs.gather()
    found, _ = library.launch(name, several(inputs, 4), 4)
    np.testing.assert_array_equal(found["x"], np.stack([wanted] * 4))


@pytest.mark.parametrize("name", ["powers", "staged_powers"])
def test_answers_in_the_place_of_inputs(library: Library, name: str) -> None:
    A = np.random.default_rng(0).normal(size=(15, 16, 9)).astype(np.float32)
    for order in ORDERS:
        agree(library, name, {"A": A}, order=order)


def test_operators_keep_nan_and_infinity(library: Library) -> None:
    agree(library, "floats", several(programs.float_operators("float32")[1], 1), rtol=2e-6)
    agree(library, "integers", several(programs.integer_operators("int32")[1], 1), rtol=0)
    agree(library, "casts", several(programs.casts(TYPES)[1], 1), rtol=0)


def test_any_byte_but_zero_is_true(library: Library) -> None:
    a, b = np.array([[2, 2, 0, 1]], np.uint8), np.array([[1, 0, 1, 1]], np.uint8)
    found, _ = library.launch("bytes", {"a": a.view(bool), "b": b.view(bool)}, 1)
    assert found["c"].view(np.uint8).tolist() == [[1, 0, 0, 1]]


@pytest.mark.parametrize("group", [1, 4, GRID])
def test_an_input_without_the_batch_axis_is_shared(library: Library, group: int) -> None:
    a = np.arange(6, dtype=np.float32)
    b = np.stack([a, 10 * a, -a])
    found, _ = library.launch(f"shared_{group}", {"a": a, "b": b}, 3)
    np.testing.assert_array_equal(found["c"], a + b)


def test_a_batch_of_zero_does_nothing(library: Library) -> None:
    for choices in CHOICES:
        found, ticks = library.launch(named(choices), {"y": np.empty((0, 5), np.float32)}, 0)
        assert found["x"].shape == (0, 9) and not ticks[:, 1:].any()


def test_stamps_grow_and_end_with_the_iterations_that_ran(library: Library) -> None:
    _, ticks = library.launch(named(GpuChoices(32)), drawn(2, 5), 2, 3)
    assert ticks.shape == (2, 7) and not ticks[:, 5].any()  # of the iteration that did not run
    assert (np.diff(ticks[:, [0, 1, 2, 3, 4, 6]]) > 0).all() and (ticks[:, 0] > 0).all()


# -- text ------------------------------------------------------------------------------------------------------------


def waits(parts: Parts) -> int:
    """Barriers as the mapping has them, and those of teams that store."""
    own = sum(isinstance(p, Barrier) for p in parts)
    return own + sum(waits(p.body) for p in parts if isinstance(p, InStep))


@pytest.mark.parametrize("choices", [GpuChoices(8, 4), GpuChoices(32), GpuChoices(64)], ids=named)
def test_tvm_keeps_every_barrier_and_adds_none(library: Library, choices: GpuChoices) -> None:
    mapped = map_program(programs.lista(peeled=True), choices)
    parts = [mapped.load, mapped.begin, *(s.parts for s in mapped.steps), mapped.end]
    text = function(library, named(choices))
    own = "__syncthreads();" if choices.group > 32 else "__syncwarp();"
    assert text.count(own) == sum(map(waits, parts)) + (1 if choices.group > 32 else 0) >= 2
    assert text.count("__sync") == sum(map(waits, parts)) + 1  # the one after what a block loads once


def function(library: Library, name: str) -> str:
    """The kernel's text."""
    return library.text.split(f"solve_{name}(")[2].split('extern "C"')[0]


def test_kernels_without_their_barriers_are_wrong(library: Library, tmp_path: Path) -> None:
    """What runs them on the processor sees a missing barrier: these tests can fail."""
    kernels = [k for k in library.kernels if k.name == named(GpuChoices(8, 4))]
    broken = Library(kernels, tmp_path, change=lambda text: text.replace("__syncwarp();", ";"))
    with pytest.raises(AssertionError, match="Mismatch|Not equal"):
        for order in ORDERS:
            agree(broken, named(GpuChoices(8, 4)), drawn(11, 5), order=order)


def test_the_source_depends_on_the_program_alone() -> None:
    program = programs.awkward()[0]
    turned = replace(program, buffers=dict(reversed(program.buffers.items())))
    assert prepared("a", turned, GpuChoices(4, 2)).script == prepared("a", program, GpuChoices(4, 2)).script


def test_the_launch_is_that_of_the_other_back_end() -> None:
    program = programs.lista()
    ports = tuple(programs.ports(program, names) for names in (program.inputs, program.outputs))
    forms = [CudaForm("few", 1, GpuChoices(64)), CudaForm("many", 100, GpuChoices(4, 32))]
    own = tvm_cuda_sources("solver", program, ports[0], ports[1], forms)
    assert own["solver_launch.json"] == cuda_sources("solver", program, ports[0], ports[1], forms)["solver_launch.json"]
    assert sorted(own) == ["solver.cuh", "solver.tir", "solver_launch.json"]
    for name in ("solve_few", "solve_many"):
        assert f"def {name}(" in own["solver.tir"]


def test_no_text_of_the_model_leaves_its_comment() -> None:
    assert "# from begin_W1_y______\n" in prepared("a", programs.lista(), GpuChoices(4)).script


# -- slow ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_operators_of_other_types(tmp_path: Path) -> None:
    made = {f"integers_{dtype}": programs.integer_operators(dtype) for dtype in INTEGERS}
    made["floats"] = programs.float_operators("float64")
    library = Library([prepared(name, program, GpuChoices(32, 2)) for name, (program, _) in made.items()], tmp_path)
    for name, (_, inputs) in made.items():
        agree(library, name, several(inputs, 3), rtol=1e-14 if name == "floats" else 0)


@pytest.mark.slow
def test_every_solver_on_every_group(workshop: Any, solver: Any, tmp_path: Path) -> None:
    model = workshop.imported(solver.make(4))
    program = cuda_program(repeat_nests(lower(optimise(model.program))))
    feeds = [
        dict(zip(program.inputs, workshop.single(solver.problems(), model, i).values(), strict=True)) for i in (0, 1)
    ]
    inputs = {name: np.stack([f[name] for f in feeds]) for name in program.inputs}
    choices = [GpuChoices(1, 3), GpuChoices(8, 4), GpuChoices(32), GpuChoices(64), GpuChoices(GRID, threads=16)]
    library = Library([prepared(f"g{c.group}", program, c) for c in choices], tmp_path)
    for number, c in enumerate(choices):
        for k in (program.iterations, program.iterations - 1):
            agree(library, f"g{c.group}", inputs, k, 1e-4, ORDERS[number % len(ORDERS)])
