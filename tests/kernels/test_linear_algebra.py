"""Exact linear algebra in whole solvers: it rolls, a fixed matrix is factored once, and every back end agrees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from exact_nodes import OURS, one_node
from onnx import helper

import unfoldc
from unfoldc.errors import UnfoldcError
from unfoldc.export.linear_algebra import add_functions
from unfoldc.kernels.operators import OPERATORS
from unfoldc.kernels.pipeline import compile_onnx, load_program
from unfoldc.kernels.program import Program, TensorType
from unfoldc.targets import find_target
from unfoldc.targets.emulator import Emulator
from unfoldc.targets.firmware import build_firmware

K = 4
SIZE = {"n": 5}
LIMITS = {"float32": 2e-4, "float64": 1e-11}
BACKENDS = ("reference", "c", "numba", "tvm")


def rho(k: int) -> float:
    return 0.5 + 0.3 * k


def solve_by(g: Any, kind: str, matrix: str, right: str) -> str:
    if kind == "cholesky":
        lower = g("Cholesky", matrix, domain=OURS)
        half = g("SolveTriangular", lower, right, domain=OURS, upper=0, transposed=0)
        return str(g("SolveTriangular", lower, half, domain=OURS, upper=0, transposed=1))
    if kind == "solve":
        return str(g("Solve", matrix, right, domain=OURS))
    return str(g("MatMul", g("Inverse", matrix, domain=OURS), right))


def solver_model(g: Any, kind: str, changing: bool = False, shared: bool = False, n: int = 5) -> onnx.ModelProto:
    """x = (G + rho I)^-1 (b + rho tanh x), K times; rho differs from iteration to iteration where `changing`."""
    matrix = g.input("G", *(() if shared else ("batch",)), n, n)
    b, one = g.input("b", "batch", n, 1), g.weight("I", np.eye(n))
    x = b
    for g.k in range(K):
        weight = g.weight(f"rho{g.k * changing}", rho(g.k * changing))
        a = g("Add", matrix, g("Mul", weight, one))
        x = solve_by(g, kind, a, g("Add", b, g("Mul", weight, g("Tanh", x))))
    g.k = None
    model: onnx.ModelProto = g.model(g("Neg", x))
    model.opset_import.append(helper.make_opsetid(OURS, 1))
    return model


def wanted(matrices: np.ndarray, b: np.ndarray, changing: bool) -> np.ndarray:
    """The same in float64."""
    matrices, b = matrices.astype(np.float64), b.astype(np.float64)
    x = b
    for k in range(K):
        r = rho(k * changing)
        x = np.linalg.solve(matrices + r * np.eye(b.shape[-2]), b + r * np.tanh(x))
    return -x


def problems(rng: np.random.Generator, dtype: str, count: int, n: int = 5) -> tuple[np.ndarray, np.ndarray]:
    x = rng.normal(size=(count, n, n + 1))
    return (x @ np.swapaxes(x, 1, 2) / n).astype(dtype), rng.normal(size=(count, n, 1)).astype(dtype)


def error(found: Any, exact: np.ndarray) -> float:
    return float(np.linalg.norm(np.asarray(found).reshape(exact.shape) - exact) / np.linalg.norm(exact))


def places(program: Program) -> tuple[list[str], list[str]]:
    """The factorisations in `begin` and in the body."""
    (body,) = program.segments
    assert body.count == K
    kinds = ("Cholesky", "LowerUpper", "InverseFactored")
    begin, inside = ([n.operator for n in nodes if n.operator in kinds] for nodes in (program.begin, body.nodes))
    return begin, inside


@pytest.mark.parametrize("kind", ["cholesky", "solve", "inverse"])
@pytest.mark.parametrize("style", ["names", "none"])
def test_a_fixed_matrix_is_factored_once(kind: str, style: str, workshop: Any) -> None:
    begin, inside = places(load_program(workshop.save(solver_model(workshop.Graph(style=style), kind)))[1])
    assert begin and not inside


@pytest.mark.parametrize("kind", ["cholesky", "solve", "inverse"])
def test_a_matrix_that_changes_is_factored_in_the_body(kind: str, workshop: Any) -> None:
    begin, inside = places(load_program(workshop.save(solver_model(workshop.Graph(), kind, changing=True)))[1])
    assert inside and not begin


FEW = (("cholesky", True, False), ("solve", False, False))


@pytest.mark.parametrize(
    ("backend", "dtype"), [*((b, "float32") for b in BACKENDS), ("reference", "float64"), ("c", "float64")]
)
def test_back_ends(backend: str, dtype: str, workshop: Any) -> None:
    """One problem, and several, which the C back end solves side by side."""
    rng = np.random.default_rng(3)
    for kind in ("cholesky", "solve", "inverse"):
        for changing, shared in ((False, False), (True, False), (False, True)):
            if backend in ("numba", "tvm") and (kind, changing, shared) not in FEW:
                continue  # they take long to compile
            model = solver_model(workshop.Graph(dtype=dtype), kind, changing, shared)
            path = workshop.save(model, f"{kind}_{changing}_{shared}.onnx")
            solver = unfoldc.compile(path, backend=backend, cache=False)
            for count in (1, 19):
                matrices, b = problems(rng, dtype, count)
                if shared:
                    matrices = matrices[0]
                assert error(solver(matrices, b), wanted(matrices, b, changing)) < LIMITS[dtype]


def small_filter(g: Any) -> onnx.ModelProto:
    """One step of a Kalman filter of order 2 whose gain solves with the inverse of an inverse."""
    prior, y = g.input("G", 2, 2), g.input("y", "batch", 2, 8)
    one, transition = g.weight("one", np.eye(2)), g.weight("F", [[0.1, -0.6], [0.2, 0.3]])
    g.k = 0
    p = g("Add", g("MatMul", g("MatMul", transition, prior), g("Transpose", transition, perm=[1, 0])), one)
    s = g("Inverse", g("Inverse", g("Add", p, one), domain=OURS), domain=OURS)
    gain = g("Transpose", g("Solve", s, p, domain=OURS), perm=[1, 0])
    state = g("Add", g("MatMul", transition, y), g("MatMul", gain, g("Sub", y, g("MatMul", transition, y))))
    after = g("Sub", p, g("MatMul", gain, p))
    after = g("Mul", g("Add", after, g("Transpose", after, perm=[1, 0])), g.weight("half", 0.5))
    g.k = None
    return g.model(g("Neg", state), g("Neg", after))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "backend", [pytest.param(b, marks=[pytest.mark.slow] if b == "numba" else []) for b in BACKENDS]
)
def test_matrices_of_order_2_in_a_filter(backend: str, workshop: Any) -> None:
    """The compiler unrolls their loops wholly, and must not mix their elements up."""
    solver = unfoldc.compile(workshop.save(small_filter(workshop.Graph())), backend=backend, cache=False)
    rng, step = np.random.default_rng(4), np.array([[0.1, -0.6], [0.2, 0.3]])
    for _ in range(5):
        x = rng.normal(size=(2, 4))
        prior, y = (x @ x.T).astype(np.float32), rng.normal(size=(3, 2, 8)).astype(np.float32)
        p = step @ prior @ step.T + np.eye(2)
        gain = np.linalg.solve(p + np.eye(2), p).T
        state, after = solver(prior, y)
        assert error(state, -(step @ y + gain @ (y - step @ y))) < 1e-5
        assert error(np.broadcast_to(after, (*after.shape[:-2], 2, 2)).reshape(-1, 2, 2)[0], gain @ p - p) < 1e-5


def test_problems_side_by_side(workshop: Any) -> None:
    """Cholesky has a form for several problems at once; pivots differ from problem to problem."""
    host = find_target("host").spec
    for kind in ("cholesky", "solve"):
        path = workshop.save(solver_model(workshop.Graph(), kind))
        artifact = compile_onnx(path, host, "c", "s")
        assert ("s_lanes.c" in artifact.sources) == (kind == "cholesky"), artifact.notes["one_by_one"]


@pytest.mark.parametrize("backend", ["c", "numba", "tvm"])
def test_code_does_not_grow_with_the_matrix(backend: str, workshop: Any) -> None:
    def lines(n: int, spec: str) -> int:
        total = 0
        for kind in ("cholesky", "solve", "inverse"):
            path = workshop.save(solver_model(workshop.Graph(), kind, changing=True, n=n))
            sources = compile_onnx(path, find_target(spec).spec, backend, "s").sources
            total += sum(len(t.splitlines()) for name, t in sources.items() if "weights" not in name)
        return total

    # Sizes that fill as many vectors at a time; where a long line ends is all that differs.
    for spec, small, large in (("host", 160, 288), ("cortex-m4", 32, 96)):
        assert abs(lines(small, spec) - lines(large, spec)) < 12


def test_a_triangle_shorter_than_a_block_is_not_blocked(workshop: Any) -> None:
    """Blocks of 16 rows that a matrix of order 2 never fills would only lengthen the code."""
    lengths = []
    for n in (2, 32):
        path = workshop.save(solver_model(workshop.Graph(), "solve", changing=True, n=n))
        spec = replace(find_target("host").spec, vector_bits=512, accumulators=16, batch_lanes=0)
        lengths.append(len(compile_onnx(path, spec, "c", "s").sources["s.c"].splitlines()))
    assert lengths[0] < 0.7 * lengths[1]


# -- matrices that have no answer ----------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", [b for b in BACKENDS if b != "numba"])
@pytest.mark.parametrize("operator", ["Cholesky", "SolveTriangular", "Solve", "Inverse"])
def test_no_plausible_answer_where_there_is_none(operator: str, backend: str, workshop: Any) -> None:
    refuses(operator, backend, workshop)


@pytest.mark.parametrize(
    "operator",
    ["Cholesky", *(pytest.param(o, marks=pytest.mark.slow) for o in ("Solve", "SolveTriangular", "Inverse"))],
)
def test_no_plausible_answer_from_numba_either(operator: str, workshop: Any) -> None:
    refuses(operator, "numba", workshop)


def refuses(operator: str, backend: str, workshop: Any) -> None:
    """In a batch the others keep their answers."""
    n, rng = 6, np.random.default_rng(5)
    path = workshop.save(one_node(workshop.Graph(), operator, n), f"{operator}.onnx")
    solver = unfoldc.compile(path, backend=backend, cache=False)
    good = (np.eye(n) * 3 + rng.normal(size=(n, n)) / 9).astype(np.float32)
    good = good @ good.T
    bad: list[np.ndarray] = [np.zeros((n, n)), good.copy(), good.copy(), good.copy()]
    bad[1][2, :] = bad[1][:, 2] = 0
    bad[2][-1, :] = bad[2][:, -1] = 0
    bad[3][3, 1] = bad[3][1, 3] = np.nan
    if operator == "Cholesky":
        bad += [-good, good - 40 * np.diag(np.arange(n) == n - 1)]
    b = rng.normal(size=(n, 2)).astype(np.float32)
    given = np.stack([*bad, *[good] * 19]).astype(np.float32)
    for chosen in (given, *(given[i : i + 1] for i in range(len(bad)))):
        arguments = (
            [chosen] if operator in ("Cholesky", "Inverse") else [chosen, np.broadcast_to(b, (len(chosen), n, 2))]
        )
        found = np.asarray(solver(*map(np.ascontiguousarray, arguments))).reshape(len(chosen), n, -1)
        for a, x in zip(chosen, found, strict=True):
            assert np.isfinite(x).all() == np.array_equal(a, good)
    if operator == "Cholesky":
        assert np.isnan(found).any()  # the last one is indefinite


@pytest.mark.parametrize(
    "backend", [pytest.param(b, marks=[pytest.mark.slow] if b == "numba" else []) for b in BACKENDS]
)
def test_pivots_and_bad_condition(backend: str, workshop: Any) -> None:
    """The residual is small, relative to the size of matrix and answer, however bad the condition."""
    n, rng = 17, np.random.default_rng(6)
    g = workshop.Graph(dtype="float64")
    a, b = g.input("A", "batch", n, n), g.input("B", "batch", n, 3)
    model = g.model(g("Solve", a, b, domain=OURS), g("Inverse", a, domain=OURS))
    solver = unfoldc.compile(workshop.save(model, "pivots.onnx"), backend=backend, cache=False)
    hilbert = 1 / (np.arange(n)[:, None] + np.arange(n) + 1.0)
    tiny = rng.normal(size=(n, n))
    tiny[np.arange(n), np.arange(n)] = 1e-15
    order = np.eye(n)[rng.permutation(n)]
    given = np.stack([hilbert, tiny, order, order @ np.triu(rng.normal(size=(n, n)) + 3 * np.eye(n))])
    right = rng.normal(size=(4, n, 3))
    x, inverse = (np.asarray(y).reshape(4, n, -1) for y in solver(given, right))
    for i in range(4):
        size = np.linalg.norm(given[i])
        assert np.linalg.norm(given[i] @ x[i] - right[i]) < 1e-13 * size * np.linalg.norm(x[i])
        assert np.linalg.norm(given[i] @ inverse[i] - np.eye(n)) < 1e-12 * size * np.linalg.norm(inverse[i])
    np.testing.assert_array_equal(inverse[2], order.T)


# -- cost, ONNX Runtime, a microcontroller -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operator", "products"),
    [
        ("Cholesky", 1 / 6),
        ("LowerUpper", 1 / 3),
        ("InverseFactored", 2 / 3),
        ("SolveTriangular", 0),
        ("SolveFactored", 0),
    ],
)
def test_flops(operator: str, products: float) -> None:
    n, m = 120, 3
    square, packed, right = (TensorType("float32", s) for s in ((2, n, n), (2, n + 1, n), (2, n, m)))
    output = {"LowerUpper": packed, "SolveTriangular": right, "SolveFactored": right}.get(operator, square)
    leading = products * n**3 + {"SolveTriangular": 0.5, "SolveFactored": 1.0}.get(operator, 0) * n * n * m
    assert OPERATORS[operator].flops([square], output) == pytest.approx(2 * 2 * leading, rel=0.03)


def test_onnx_runtime_runs_the_functions_that_the_file_carries(workshop: Any) -> None:
    rng = np.random.default_rng(9)
    for kind in ("cholesky", "solve"):
        model = solver_model(workshop.Graph(), kind, changing=True)
        del model.opset_import[-1]
        path = workshop.save(model, f"bare_{kind}.onnx")
        add_functions(model, 18)
        solver = unfoldc.compile(workshop.save(model, f"full_{kind}.onnx"), backend="onnxruntime", cache=False)
        matrices, b = problems(rng, "float32", 3)
        assert error(solver(matrices, b), wanted(matrices, b, True)) < 1e-4
        assert solver.artifact.iterations == K
        with pytest.raises(UnfoldcError, match="operator is missing|no sound model"):
            unfoldc.compile(path, backend="onnxruntime", cache=False)


Count = Callable[[str, int], int]


@pytest.fixture
def instructions(workshop: Any, tmp_path: Path) -> Count:
    """Checks the answer on the emulated Cortex-M4 and counts the instructions of its iterations."""

    def count(kind: str, n: int) -> int:
        target, rng = find_target("cortex-m4"), np.random.default_rng(n)
        path = workshop.save(solver_model(workshop.Graph(), kind, changing=True, n=n))
        artifact = compile_onnx(path, target.spec, "c", "solver")
        (tmp_path / f"{kind}{n}").mkdir()
        emulator = Emulator(build_firmware(artifact, target, tmp_path / f"{kind}{n}", strict=True), artifact, target)
        matrices, b = problems(rng, "float32", 1, n)
        assert error(emulator.solve([matrices[0], b[0]])[0], wanted(matrices, b, True)) < 1e-4
        zero = -rho(1) * np.eye(n, dtype=np.float32)  # singular in the second iteration
        assert not np.isfinite(emulator.solve([zero, b[0]])[0]).all()
        return sum(emulator.count([matrices[0], b[0]]).iterate)

    return count


@pytest.mark.parametrize(("kind", "share"), [("cholesky", 1 / 6), ("solve", 1 / 3), ("inverse", 1)])
def test_on_a_microcontroller(kind: str, share: float, instructions: Count) -> None:
    """Of twice the order the count is less than that of the products times 8, and each product takes a few."""
    small, large = instructions(kind, 16), instructions(kind, 32)
    per_product = (large - small) / (K * share * (32**3 - 16**3))
    assert 2.5 < per_product < 9, per_product
