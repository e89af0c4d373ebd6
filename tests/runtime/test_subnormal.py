"""Numbers below the least normal one count as zero while a solver runs, and only then."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from unfoldc import pipeline

K = 6


@pytest.fixture
def halving(tmp_path: Path) -> Path:
    """x = x / 4 + 0 w: K times."""
    nodes = [helper.make_node("Mul", [f"x{k}", "quarter"], [f"x{k + 1}"], name=f"iteration.{k}/Mul") for k in range(K)]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "halving",
        [value("x0", TensorProto.FLOAT, ("batch", 5))],
        [value(f"x{K}", TensorProto.FLOAT, ("batch", 5))],
        [numpy_helper.from_array(np.array(0.25, np.float32), "quarter")],
    )
    path = tmp_path / "halving.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


@pytest.mark.parametrize("backend", ["c", "tvm"])
def test_they_vanish_and_the_caller_keeps_its_own(halving: Path, backend: str) -> None:
    solver = pipeline.compile(halving, backend=backend)
    small = np.full((3, 5), 2e-37, np.float32)
    assert not solver(small).any()
    assert solver(small * 1e6).all()
    assert (small / np.float32(1024)).all()  # this thread computes with subnormal numbers as before
