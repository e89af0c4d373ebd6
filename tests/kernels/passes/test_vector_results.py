from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from unfoldc.kernels import build
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import For, Load, LoopProgram, Store, Var
from unfoldc.kernels.lower import lower
from unfoldc.kernels.passes.split_ranges import split_ranges
from unfoldc.kernels.passes.vector_results import vector_results
from unfoldc.kernels.pipeline import load_program
from unfoldc.kernels.verify import verify_loops

K = 4  # the fewest for which a matrix is copied


def lanes(program: LoopProgram) -> list[int]:
    """How many lanes each loop over lanes in the iterations has."""
    parts = [s for step in program.steps for s in build.statements(step.body)]
    return [int(str(s.extent)) for s in parts if isinstance(s, For) and s.kind == "lanes"]


def same(plain: LoopProgram, bits: int = 128, registers: int = 6) -> LoopProgram:
    """The program with vectors, after a look at whether it is a program and gives the same after each iteration."""
    changed = vector_results(plain.mapped(split_ranges), bits, registers)
    verify_loops(changed)
    rng = np.random.default_rng(11)
    inputs = {n: rng.standard_normal(plain.buffers[n].shape).astype(plain.buffers[n].dtype) for n in plain.inputs}
    for k in (1, plain.iterations):
        want, got = run(plain, inputs, k), run(changed, inputs, k)
        for name, value in want.items():
            np.testing.assert_allclose(got[name], value, rtol=1e-4, atol=1e-5, err_msg=f"{name} after {k}")
    return changed


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("rows", [2, 4, 7, 8, 21, 40])
@pytest.mark.parametrize("columns", [2, 9, 16])
def test_a_product_with_a_vector(rows: int, columns: int, transposed: bool, products: Any) -> None:
    program = products.product(rows, columns, transposed)
    changed = vector_results(program, 128, 6)
    np.testing.assert_allclose(products.answer(changed), products.answer(program), rtol=1e-4, atol=1e-6)
    assert max(lanes(changed)) == min(rows, 4)


def test_weights_are_laid_out_as_they_are_read(products: Any) -> None:
    """Row by row in the file; in blocks of vectors of results, sum after sum, for the program."""
    program = products.product(40, 9, transposed=False)
    changed = vector_results(program, 128, 4)
    assert "w" not in changed.constants
    blocks = [v for v in changed.constants.values() if v.ndim == 3]
    assert sum(v.size for v in blocks) == 40 * 9
    first = next(v for v in blocks if v.shape[0] > 1)
    np.testing.assert_array_equal(first[1, 3], program.constants["w"][16:32, 3])


def test_sums_that_are_too_few_are_split(products: Any) -> None:
    changed = vector_results(products.product(4, 16, transposed=True), 128, 6)
    body = build.statements(changed.steps[0].body)
    assert [s.extent for s in body if isinstance(s, For)] == [4, 4]  # the lanes, and 4 times 4 terms


def test_an_index_that_counts_results_stays_a_loop(products: Any) -> None:
    program = products.product(8, 8, transposed=True)
    position = build.cast(Var("i"), "float32")

    def change(e: Any) -> Any:
        return position if isinstance(e, Load) and e.buffer == "y" else None

    body = tuple(build.map_stmt(s, change) for s in program.steps[0].body)
    program = products.changed(program, body, {})
    assert lanes(vector_results(program, 128, 6)) == []


def gradient(g: Any, x: str, k: int) -> str:
    """A matrix that all iterations read, once along its rows and once along its columns."""
    H, Ht = "H", g("Transpose", "H", perm=[0, 2, 1])
    residual = g("Sub", g("MatMul", H, x), "y")
    return str(g("Sub", x, g("Mul", g.weight("mu", 0.05), g("MatMul", Ht, residual))))


def complex_gradient(g: Any, x: str, k: int) -> str:
    """Complex numbers as pairs: the parts lie two apart."""
    real = g("Gather", "C", g.weight("re", 0, "int64"), axis=3)
    return str(g("Tanh", g("MatMul", g("Transpose", real, perm=[0, 2, 1]), g("MatMul", real, x))))


def products_of_matrices(g: Any, x: str, k: int) -> str:
    w = g.weight("A", g.random("A", 9, 9))
    return str(g("Relu", g("MatMul", w, g("MatMul", "G", x))))


def convolution(g: Any, x: str, k: int) -> str:
    w, b = g.weight("w", g.random("w", 4, 2, 3, 3)), g.weight("b", g.random("b", 4))
    v = g.weight("v", g.random("v", 2, 4, 5, 3))
    features = g("Relu", g("Conv", x, w, b, pads=[1, 1, 1, 1]))
    return str(g("Conv", features, v, pads=[2, 1, 2, 1]))


def one_channel(g: Any, x: str, k: int) -> str:
    w = g.weight("w", g.random("w", 1, 1, 5, 3))
    return str(g("Add", x, g("Conv", x, w, pads=[2, 1, 2, 1])))


def norms(g: Any, x: str, k: int) -> str:
    most = g("ReduceMax", x, g.weight("axis", [1], "int64"))
    return str(g("Div", x, g("Add", g("Exp", most), g("ReduceSum", g("Abs", x), g.weight("axis", [1], "int64")))))


STEPS: dict[Callable[..., str], dict[str, tuple[int, ...]]] = {
    gradient: {"H": (7, 10), "y": (7, 1)},
    complex_gradient: {"C": (7, 10, 2)},
    products_of_matrices: {"G": (9, 9)},
    convolution: {},
    one_channel: {},
    norms: {},
}
SHAPES: dict[Callable[..., str], tuple[int, ...]] = {
    gradient: (10, 1), complex_gradient: (10, 6), products_of_matrices: (9, 11), convolution: (2, 5, 9),
    one_channel: (1, 9, 9), norms: (6, 9),
}  # fmt: skip


def model(g: Any, step: Callable[..., str]) -> onnx.ModelProto:
    for name, shape in STEPS[step].items():
        g.input(name, "batch", *shape)
    x = g.input("x", "batch", *SHAPES[step])
    for g.k in range(K):
        x = step(g, x, g.k)
    g.k = None
    made: onnx.ModelProto = g.model(g("Neg", x))
    return made


@pytest.mark.parametrize(("bits", "dtype"), [(128, "float32"), (512, "float64")])
@pytest.mark.parametrize("step", STEPS)
def test_solvers_keep_their_iterates(step: Callable[..., str], bits: int, dtype: str, workshop: Any) -> None:
    _, program = load_program(workshop.save(model(workshop.Graph(dtype), step)))
    changed = same(lower(program), bits, registers=bits // 21)
    assert lanes(changed)


def test_a_matrix_given_at_run_time_gets_a_twin_in_begin(workshop: Any) -> None:
    _, program = load_program(workshop.save(model(workshop.Graph(), gradient)))
    changed = same(lower(program), 128)
    (twin,) = [n for n in changed.buffers if n.startswith("input_") and changed.buffers[n].space == "state"]
    assert changed.buffers[twin].shape[-1] == 7
    filled = {s.buffer for s in build.statements(changed.begin) if isinstance(s, Store)}
    assert twin in filled


def test_padding_becomes_loops_over_borders(workshop: Any) -> None:
    _, program = load_program(workshop.save(model(workshop.Graph(), one_channel)))
    plain = lower(program)
    changed = plain.mapped(split_ranges)
    verify_loops(changed)
    compared = [
        e
        for s in build.statements(changed.steps[0].body)
        for top in build.expressions(s)
        for e in build.walk(top)
        if getattr(e, "operator", "") in ("ge", "lt", "min", "max")
    ]
    assert not compared
    x = {plain.inputs[0]: np.random.default_rng(1).standard_normal((1, *SHAPES[one_channel])).astype("float32")}
    x = {n: v.reshape(plain.buffers[n].shape) for n, v in x.items()}
    for name, value in run(plain, x).items():
        np.testing.assert_allclose(run(changed, x)[name], value, rtol=1e-5)


def test_functions_of_sums_that_are_no_vectors_are_parted_from_them(workshop: Any) -> None:
    """Sums along the rows of what the same iteration made: no twin in begin could help."""

    def network(g: Any, x: str, k: int) -> str:
        hidden = g("Relu", g("Mul", x, g.weight("a", g.random("a", 6, 20))))
        return str(g("Sigmoid", g("MatMul", hidden, g.weight("v", g.random("v", 20, 1)))))

    g = workshop.Graph()
    x = g.input("x", "batch", 6, 1)
    for g.k in range(K):
        x = network(g, x, g.k)
    g.k = None
    _, program = load_program(workshop.save(g.model(g("Neg", x))))
    changed = same(lower(program))
    inside = build.statements(changed.steps[0].body)
    sums = [s.buffer for s in inside if isinstance(s, Store) and s.buffer.startswith("e")]
    assert sums == ["e0"]
