from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from unfoldc.kernels import build
from unfoldc.kernels.interpret_loops import run
from unfoldc.kernels.loops import (
    Assign,
    Binary,
    Buffer,
    Expr,
    For,
    Let,
    Load,
    Local,
    LoopProgram,
    Nest,
    Step,
    Stmt,
    Store,
    Var,
)
from unfoldc.kernels.lower import lower
from unfoldc.kernels.passes.jam_results import _parts
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
    assert [s.extent for s in body if isinstance(s, For)] == [4, 2]  # the lanes, and twice 8 terms
    totals = [s.value for s in body if isinstance(s, Assign)]
    assert max(_depth(e) for e in totals) == 3  # neighbours are added up, and then these


@pytest.mark.parametrize(
    ("terms", "most", "parts"), [(3, 8, 1), (4, 8, 2), (8, 8, 4), (12, 8, 4), (16, 8, 8), (100, 8, 8), (100, 2, 2)]
)
def test_the_chain_of_additions_is_shortest(terms: int, most: int, parts: int) -> None:
    """That of a part, which grows term by term, and the one that adds up the parts."""
    assert _parts(terms, most) == parts


def _depth(e: Expr) -> int:
    """How many additions of scalars wait for each other."""
    return 1 + max(_depth(e.a), _depth(e.b)) if isinstance(e, Binary) and e.operator == "add" else 0


def test_an_index_that_counts_results_stays_a_loop(products: Any) -> None:
    program = products.product(8, 8, transposed=True)
    position = build.cast(Var("i"), "float32")

    def change(e: Any) -> Any:
        return position if isinstance(e, Load) and e.buffer == "y" else None

    body = tuple(build.map_stmt(s, change) for s in program.steps[0].body)
    program = products.changed(program, body, {})
    assert lanes(vector_results(program, 128, 6)) == []


@pytest.mark.parametrize("inside", ["results", "sums"])
def test_loops_over_lanes_are_left_alone(products: Any, inside: str) -> None:
    """Whatever stands in them or around them."""
    program = products.product(24, 8, transposed=True)
    place, total = build.add(build.mul(Var("b"), build.index(8)), Var("l")), Local("acc", "float32")

    def load(name: str, *at: Expr) -> Load:
        return Load(name, at, "float32")

    if inside == "results":
        own: tuple[Stmt, ...] = (For("c", 24, (Store("y", (Var("c"),), build.unary("abs", load("y", Var("c")))),)),)
    else:
        term = build.mul(load("w", Var("j"), place), load("x", Var("j")))
        sums = For("j", 8, (Assign("acc", build.add(total, term)),))
        own = (Let("acc", build.literal(0, "float32"), True), sums, Store("y", (place,), total))
    body = (For("b", 3, (For("l", 8, own, "lanes"),)),)
    assert vector_results(products.changed(program, body, {}), 128, 6).steps[0].body == body


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
    assert all(s.extent != 1 for s in build.statements(changed.steps[0].body) if isinstance(s, For))
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


def turned(width: int) -> LoopProgram:
    """z = x with its halves exchanged, plus y."""
    place = build.binary("mod", build.add(Var("i"), build.index(width // 2)), build.index(width))
    value = build.add(Load("x", (place,), "float32"), Load("y", (Var("i"),), "float32"))
    buffers = {n: Buffer(n, "float32", (width,), s) for n, s in (("x", "input"), ("y", "input"), ("z", "output"))}
    end = (For("i", width, (Store("z", (Var("i"),), value),)),)
    return LoopProgram(buffers, {}, ("x", "y"), ("z",), (), (Step(0, 1, ()),), end)


def test_halves_change_places_within_one_vector_only() -> None:
    for width, vector in ((4, True), (8, False)):
        changed = same(turned(width))
        assert any(isinstance(s, For) and s.kind == "lanes" for s in build.statements(changed.end)) == vector


def test_what_is_read_behind_a_sum_is_loaded_there(products: Any) -> None:
    """A product like any other, with y loaded before its sum."""
    program = products.product(8, 9, transposed=True)
    (nest,) = program.steps[0].body
    (loop,) = nest.body
    start, total, value, store = loop.body
    y = Let("early", Load("y", (Var("i"),), "float32"))
    late = build.map_stmt(value, lambda e: Local("early", "float32") if isinstance(e, Load) else None)
    program = products.changed(program, (For("i", 8, (y, start, total, late, store)),), {})
    changed = vector_results(program, 128, 6)
    np.testing.assert_allclose(products.answer(changed), products.answer(program), rtol=1e-4, atol=1e-6)
    (lanes_loop,) = [s for s in build.statements(changed.steps[0].body) if isinstance(s, For) and s.kind == "lanes"]
    at = [type(s) for s in lanes_loop.body].index(For)
    assert not [s for s in lanes_loop.body[:at] if isinstance(s, Let) and s.name.startswith("early")]


@pytest.mark.parametrize(("rows", "terms", "kind"), [(4, 16, "unroll"), (4, 80, "serial"), (8, 16, "serial")])
def test_a_block_that_holds_a_short_product_is_written_out(rows: int, terms: int, kind: str) -> None:
    """z = a b; 4 sums of 16 terms, too many terms, more rows than a block has."""
    i, j, c = Var("i"), Var("j"), Var("c")
    shapes = {"a": (rows, terms), "b": (terms, 4), "z": (rows, 4)}
    buffers = {n: Buffer(n, "float32", s, "output" if n == "z" else "input") for n, s in shapes.items()}
    term = build.mul(Load("a", (i, j), "float32"), Load("b", (j, c), "float32"))
    inner = (
        Let("acc", build.literal(0, "float32"), mutable=True),
        For("j", terms, (Assign("acc", build.add(Local("acc", "float32"), term)),)),
        Store("z", (i, c), Local("acc", "float32")),
    )
    end = (For("i", rows, (For("c", 4, inner),)),)
    changed = same(LoopProgram(buffers, {}, ("a", "b"), ("z",), (), (Step(0, 1, ()),), end), registers=4)
    lanes_loop = next(s for s in build.statements(changed.end) if isinstance(s, For) and s.kind == "lanes")
    assert [s.kind for s in lanes_loop.body if isinstance(s, For)] == [kind]


def test_what_is_overwritten_is_loaded_before(products: Any) -> None:
    """y[i] is loaded, a sum made, stored in y[i], and what was loaded added to it."""
    program = products.product(8, 9, transposed=True)
    (nest,) = program.steps[0].body
    (loop,) = nest.body
    start, total, _, _ = loop.body
    y = Load("y", (Var("i"),), "float32")
    first = Store("y", (Var("i"),), Local("acc", "float32"))
    second = Store("y", (Var("i"),), build.add(y, Local("early", "float32")))
    program = products.changed(program, (For("i", 8, (Let("early", y), start, total, first, second)),), {})
    changed = vector_results(program, 128, 6)
    assert lanes(changed) == [4]
    np.testing.assert_allclose(products.answer(changed), products.answer(program), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rows", [2, 3])
def test_functions_along_an_outer_loop_come_four_vectors_at_a_time(rows: int) -> None:
    """t (rows, 8) lies with its columns in the outer loop, of which two vectors are taken, with two rows of them."""
    i, j = Var("i"), Var("j")
    value = build.unary("tanh", Load("x", (j, i), "float32"))
    body = (Nest((), (For("i", 8, (For("j", rows, (Store("t", (j, i), value),)),)),)),)
    shapes = {"x": "input", "t": "state", "out": "output"}
    buffers = {n: Buffer(n, "float32", (rows, 8), space) for n, space in shapes.items()}
    copy = (For("j", rows, (For("i", 8, (Store("out", (j, i), Load("t", (j, i), "float32")),)),)),)
    changed = same(LoopProgram(buffers, {}, ("x",), ("out",), (), (Step(0, 1, body),), copy))
    inside = [s for s in build.statements(changed.steps[0].body) if isinstance(s, For)]
    blocks = [s for s in inside if s.kind == "lanes"]
    assert [s.extent for s in blocks] == [4] * (rows - 1)
    assert [len(s.body) for s in blocks] == [4, 2][: rows - 1]
