"""`sparse=True`: the same answers, in a time that depends on the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from unfoldc import pipeline
from unfoldc.errors import InputError
from unfoldc.kernels.pipeline import compile_onnx
from unfoldc.targets import find_target

M, N, K = 8, 48, 5


@pytest.fixture
def ista(tmp_path: Path) -> Path:
    """x = soft(W x + A y) with a threshold that leaves few numbers."""
    rng = np.random.default_rng(0)
    weights = {"W": rng.normal(size=(N, N)) / 9, "A": rng.normal(size=(M, N)) / 3, "theta": np.array(0.6)}
    nodes = [helper.make_node("MatMul", ["y", "A"], ["x0"], name="iteration.0/a")]
    for k in range(K):
        parts = [("MatMul", f"x{k}", "W", "p"), ("Add", f"p{k}", "b", "v"), ("Neg", "theta", "", "n")]
        nodes += [
            helper.make_node(
                op, [i for i in (a, "x0" if b == "b" else b) if i], [f"{out}{k}"], name=f"iteration.{k}/{op}"
            )
            for op, a, b, out in parts
        ]
        nodes += [
            helper.make_node("Clip", [f"v{k}", f"n{k}", "theta"], [f"c{k}"], name=f"iteration.{k}/Clip"),
            helper.make_node("Sub", [f"v{k}", f"c{k}"], [f"x{k + 1}"], name=f"iteration.{k}/Sub"),
        ]
    tensors = [numpy_helper.from_array(np.asarray(v, np.float32), n) for n, v in weights.items()]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "ista", [value("y", TensorProto.FLOAT, ("batch", M))],
        [value(f"x{K}", TensorProto.FLOAT, ("batch", N))], tensors,
    )  # fmt: skip
    path = tmp_path / "ista.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def test_answers_are_those_of_the_dense_solver(ista: Path) -> None:
    dense, sparse = pipeline.compile(ista, backend="c"), pipeline.compile(ista, sparse=True)
    assert sparse.backend == "c"
    assert "nonzero" in sparse.artifact.sources["solver.c"] and "nonzero" not in dense.artifact.sources["solver.c"]
    y = np.random.default_rng(1).normal(size=(40, M)).astype(np.float32)
    want = dense(y)
    assert 0.3 < (want == 0).mean() < 1
    for got in (sparse(y), np.concatenate([sparse(row[None]) for row in y])):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    for k in range(1, K + 1):
        (a,), (b,) = (s.run({"y": y[:1]}, k).outputs.values() for s in (dense, sparse))
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_microcontroller_executes_fewer_instructions_where_numbers_are_zero(ista: Path) -> None:
    solver = pipeline.compile(ista, target="stm32f407", sparse=True)
    few = solver.profile({"y": np.zeros((1, M), np.float32)}).instructions
    many = solver.profile({"y": np.full((1, M), 5, np.float32)}).instructions
    assert few is not None and many is not None and few < many / 2


@pytest.mark.parametrize("backend", ["numba", "reference", "onnxruntime"])
def test_other_back_ends_refuse(ista: Path, backend: str) -> None:
    with pytest.raises(InputError, match=f"sparse with back end '{backend}'"):
        pipeline.compile(ista, backend=backend, sparse=True)
    with pytest.raises(InputError, match=f"sparse with back end '{backend}'"):
        compile_onnx(ista, find_target("host").spec, backend, sparse=True)
