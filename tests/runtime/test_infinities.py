"""What divides by a norm keeps its infinities on every back end: a projection at 0 is 0, not NaN."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import unfoldc

N = 4


def ball_projection(path: Path) -> Path:
    """x min(1, 1 / ||x||)."""
    nodes = [
        helper.make_node("ReduceL2", ["x", "axis"], ["norm"], keepdims=1),
        helper.make_node("Div", ["one", "norm"], ["inverse"]),
        helper.make_node("Min", ["inverse", "one"], ["scale"]),
        helper.make_node("Mul", ["x", "scale"], ["p"]),
    ]
    tensors = [numpy_helper.from_array(np.array([-1]), "axis"), numpy_helper.from_array(np.ones((), np.float32), "one")]
    x, p = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", N]) for n in ("x", "p"))
    graph = helper.make_graph(nodes, "g", [x], [p], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path / "m.onnx")
    return path / "m.onnx"


@pytest.mark.parametrize("backend", ["reference", "c", "numba", "tvm"])
def test_a_projection_at_zero_and_near_it(tmp_path: Path, backend: str) -> None:
    solver = unfoldc.compile(ball_projection(tmp_path), backend=backend)
    for x in (np.zeros(N), np.full(N, 1e-15), np.full(N, 3.0), np.full(N, 1e15)):
        for problems in (1, 17):
            batch = np.tile(x.astype(np.float32), (problems, 1))
            wanted = x * min(1.0, 1.0 / float(np.linalg.norm(x))) if x.any() else x
            np.testing.assert_allclose(solver(batch), np.tile(wanted, (problems, 1)), rtol=1e-5, atol=0)
