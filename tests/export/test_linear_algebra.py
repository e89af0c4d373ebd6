"""The functions that exported files carry for exact linear algebra, run by ONNX Runtime and by ONNX's reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import inliner

from unfoldc.export.linear_algebra import DOMAIN, NAMES, add_functions, function

Array = np.ndarray[Any, np.dtype[Any]]
TYPES = {"float32": onnx.TensorProto.FLOAT, "float64": onnx.TensorProto.DOUBLE}
BATCHES = [((), ()), ((3,), (3,)), ((2, 3), (2, 3)), ((), (4,)), ((2, 1), (3,))]


def one_call(name: str, feed: Mapping[str, Array], opset: int = 20, **attributes: int) -> onnx.ModelProto:
    """A model that calls one function, all its axes of free size; valid."""
    kind = TYPES[str(feed["A"].dtype)]
    info = onnx.helper.make_tensor_value_info
    inputs = [info(n, kind, [f"{n}{i}" for i in range(a.ndim)]) for n, a in feed.items()]
    output = info("X", kind, [f"X{i}" for i in range(max(a.ndim for a in feed.values()))])
    node = onnx.helper.make_node(name, list(feed), ["X"], domain=DOMAIN)
    node.attribute.extend(onnx.helper.make_attribute(n, value) for n, value in attributes.items())
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", inputs, [output]),
        ir_version=10,
        opset_imports=[onnx.helper.make_opsetid("", opset)],
    )
    add_functions(model, opset)
    onnx.checker.check_model(model, full_check=True)
    return model


def by_runtime(model: onnx.ModelProto, feed: Mapping[str, Array]) -> Array:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, dict(feed))
    return np.asarray(answer)


def by_reference(model: onnx.ModelProto, feed: Mapping[str, Array]) -> Array:
    from onnx.reference import ReferenceEvaluator

    with np.errstate(all="ignore"):
        (answer,) = ReferenceEvaluator(model).run(None, dict(feed))
    return np.asarray(answer)


def matrices(rng: np.random.Generator, shape: tuple[int, ...], condition: float, *, positive: bool = False) -> Array:
    """Random matrices (..., n, n) with singular values from 1 down to 1 / condition."""
    U, _ = np.linalg.qr(rng.standard_normal(shape))
    V, _ = np.linalg.qr(rng.standard_normal(shape))
    V = U if positive else V
    return np.asarray(U * np.geomspace(1, 1 / condition, shape[-1]) @ np.swapaxes(V, -1, -2))


def norms(A: Array) -> Array:
    return np.asarray(np.linalg.norm(A, axis=(-2, -1)))


def check_solution(A: Array, B: Array, X: Array) -> None:
    """||A X - B|| <= 4 n eps ||A|| ||X||, and X near NumPy's float64 solution as far as the condition allows."""
    n, eps = A.shape[-1], np.finfo(X.dtype).eps
    exact, right, found = A.astype(np.float64), B.astype(np.float64), X.astype(np.float64)
    assert (norms(exact @ found - right) <= 4 * n * eps * norms(exact) * norms(found)).all()
    wanted = np.linalg.solve(exact, right)
    assert found.shape == wanted.shape
    assert (norms(found - wanted) <= 4 * n * eps * np.linalg.cond(exact) * norms(wanted)).all()


@pytest.mark.parametrize("opset", [18, 20, 23])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("n", [1, 2, 5, 20])
def test_solve_and_inverse(n: int, dtype: str, opset: int) -> None:
    rng = np.random.default_rng(n)
    for batch, batch_right in BATCHES:
        for condition in (10.0, 0.01 / float(np.finfo(dtype).eps)):
            A = matrices(rng, (*batch, n, n), condition).astype(dtype)
            B = rng.standard_normal((*batch_right, n, 3)).astype(dtype)
            feed = {"A": A, "B": B}
            check_solution(A, B, by_runtime(one_call("Solve", feed, opset), feed))
            inverse = by_runtime(one_call("Inverse", {"A": A}, opset), {"A": A})
            check_solution(A, np.broadcast_to(np.eye(n), A.shape), inverse)
            assert inverse.dtype == A.dtype


@pytest.mark.parametrize("dtype", TYPES)
def test_rows_change_places(dtype: str) -> None:
    """A leading element that is zero, or tiny, and an order of rows of its own for each matrix of a batch."""
    rng = np.random.default_rng(0)
    A = np.stack([np.eye(6)[rng.permutation(6)] * rng.uniform(1, 2, 6) for _ in range(4)])
    A[1] += np.triu(rng.standard_normal((6, 6)))
    A[2] = rng.standard_normal((6, 6))
    A[2, 0, 0] = 1e-25
    A[3] = np.roll(np.eye(6), 2, axis=0)
    feed = {"A": A.astype(dtype), "B": rng.standard_normal((4, 6, 2)).astype(dtype)}
    for name, right in (("Solve", feed["B"]), ("Inverse", np.eye(6))):
        given = feed if name == "Solve" else {"A": feed["A"]}
        for run in (by_runtime, by_reference):
            X = run(one_call(name, given), given).astype(np.float64)
            residual = norms(A.astype(dtype).astype(np.float64) @ X - right)
            assert (residual <= 20 * np.finfo(dtype).eps * norms(A) * norms(X)).all()


@pytest.mark.parametrize("opset", [18, 20, 23])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("n", [1, 2, 5, 20])
def test_cholesky_reads_the_lower_triangle(n: int, dtype: str, opset: int) -> None:
    rng = np.random.default_rng(n)
    for batch in ((), (7,), (2, 3)):
        for condition in (10.0, 0.01 / float(np.finfo(dtype).eps)):
            A = matrices(rng, (*batch, n, n), condition, positive=True).astype(dtype)
            A = (A + np.swapaxes(A, -1, -2)) / 2
            feed = {"A": np.where(np.tri(n, dtype=bool), A, np.nan).astype(dtype)}
            L = by_runtime(one_call("Cholesky", feed, opset), feed)
            assert L.dtype == A.dtype and L.shape == A.shape
            assert (np.triu(L, 1) == 0).all()
            L, A = L.astype(np.float64), A.astype(np.float64)
            assert (norms(L @ np.swapaxes(L, -1, -2) - A) <= 2 * n * np.finfo(dtype).eps * norms(A)).all()


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize(("dtype", "opset"), [("float32", 18), ("float64", 18), ("float64", 23)])
def test_triangular_systems_read_one_triangle(dtype: str, opset: int, upper: int, transposed: int) -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 5, 20):
        for batch, batch_right in BATCHES:
            A = rng.standard_normal((*batch, n, n)) / np.sqrt(n) + 2 * np.eye(n)
            kept = np.tri(n, dtype=bool).T if upper else np.tri(n, dtype=bool)
            B = rng.standard_normal((*batch_right, n, 3)).astype(dtype)
            feed = {"A": np.where(kept, A, np.nan).astype(dtype), "B": B}
            X = by_runtime(one_call("SolveTriangular", feed, opset, upper=upper, transposed=transposed), feed)
            triangle = np.where(kept, feed["A"], 0).astype(dtype)
            check_solution(np.swapaxes(triangle, -1, -2) if transposed else triangle, B, X)


def feeds(name: str, A: Array) -> tuple[dict[str, Array], dict[str, int]]:
    feed = {"A": A} if name in ("Cholesky", "Inverse") else {"A": A, "B": np.ones((len(A), 2), A.dtype)}
    return feed, {"upper": 0, "transposed": 1} if name == "SolveTriangular" else {}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", TYPES)
def test_singular_matrices_give_no_numbers(name: str, dtype: str) -> None:
    for n in (1, 2, 3, 6):
        steps = np.arange(1.0, n + 1)
        singular = [np.zeros((n, n)), np.diag(steps * (steps != n)), np.diag(steps * (steps != 1))]
        singular += [np.outer(steps, steps)] * (n > 1 and name != "SolveTriangular")
        not_a_number = np.eye(n) + 1
        not_a_number[-1, 0] = np.nan
        for A in (*singular, not_a_number):
            feed, attributes = feeds(name, A.astype(dtype))
            for run in (by_runtime, by_reference):
                assert not np.isfinite(run(one_call(name, feed, **attributes), feed)).all()


def test_an_indefinite_matrix_has_no_cholesky_factor() -> None:
    A = np.array([[4.0, 1, 2], [1, -3, 0], [2, 0, 5]])
    found = by_runtime(one_call("Cholesky", {"A": A}), {"A": A})
    assert np.isnan(found[1:, 1:]).any()


def test_one_singular_matrix_leaves_the_others_of_a_batch_alone() -> None:
    A = np.stack([np.eye(3), np.ones((3, 3)), 2 * np.eye(3)])
    for name in ("Cholesky", "Inverse"):
        found = by_runtime(one_call(name, {"A": A}), {"A": A})
        assert not np.isfinite(found[1]).all()
        reference = np.linalg.cholesky(A[::2]) if name == "Cholesky" else np.linalg.inv(A[::2])
        np.testing.assert_allclose(found[::2], reference, rtol=1e-15)


@pytest.mark.parametrize("name", NAMES)
def test_inlined_and_in_the_reference_the_result_is_the_same(name: str) -> None:
    A = matrices(np.random.default_rng(4), (2, 5, 5), 20, positive=True)
    feed = {"A": A} if name in ("Cholesky", "Inverse") else {"A": A, "B": A[:, :, :2] + 1}
    model = one_call(name, feed, **feeds(name, A)[1])
    inlined = inliner.inline_local_functions(model)
    assert not inlined.functions and {node.domain for node in inlined.graph.node} == {""}
    found = by_runtime(model, feed)
    np.testing.assert_array_equal(by_runtime(inlined, feed), found)
    for other in (model, inlined):
        np.testing.assert_allclose(by_reference(other, feed), found, rtol=1e-13, atol=1e-13)


def test_functions_use_standard_operators_only_and_have_defaults() -> None:
    for name in NAMES:
        body = function(name, 18)
        assert {(i.domain, i.version) for i in body.opset_import} == {("", 18)}
        assert {node.domain for node in body.node} == {""}
    defaults = {a.name: a.i for a in function("SolveTriangular", 20).attribute_proto}
    assert defaults == {"upper": 0, "transposed": 0}
    feed = {"A": np.tril(np.ones((3, 3))), "B": np.ones((3, 1))}
    np.testing.assert_array_equal(by_runtime(one_call("SolveTriangular", feed), feed), [[1], [0], [0]])
