"""Small ONNX models made by hand, so that these tests need neither torch nor the exporter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

M, N, K, THETA = 5, 9, 3, 0.1


class TinyLista:
    """x_0 = soft(W1 y), x_{k+1} = soft(W1 y + W2 x_k), K = 3, y (batch, 5), x (batch, 9)."""

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        self.w1 = (rng.standard_normal((M, N)) * 0.4).astype(np.float32)
        self.w2 = (rng.standard_normal((N, N)) * 0.2).astype(np.float32)

    def model(self, batch: Any = "batch") -> onnx.ModelProto:
        weights = {"w1": self.w1, "w2": self.w2, "theta": np.array(THETA, np.float32)}
        nodes = []
        for k in range(K):
            wy, wx, z, after = f"wy{k}", f"wx{k}", f"z{k}", "x" if k == K - 1 else f"x{k}"
            steps: list[tuple[str, list[str], str]] = [("MatMul", ["y", "w1"], wy if k else z)]
            if k:
                steps += [("MatMul", [f"x{k - 1}", "w2"], wx), ("Add", [wy, wx], z)]
            steps += [("Abs", [z], f"a{k}"), ("Sub", [f"a{k}", "theta"], f"d{k}"), ("Relu", [f"d{k}"], f"p{k}")]
            steps += [("Sign", [z], f"s{k}"), ("Mul", [f"s{k}", f"p{k}"], after)]
            nodes += [helper.make_node(op, i, [o], name=f"iteration.{k}/{op}_{o}") for op, i, o in steps]
        graph = helper.make_graph(
            nodes,
            "lista",
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, M])],
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, N])],
            [numpy_helper.from_array(value, name) for name, value in weights.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)

    def solve(self, y: np.ndarray, iterations: int = K) -> np.ndarray:
        x = np.zeros((len(y), N))
        for _ in range(iterations):
            z = y @ self.w1.astype(float) + x @ self.w2
            x = np.sign(z) * np.maximum(np.abs(z) - THETA, 0)
        return x

    def problems(self, batch: int = 4) -> np.ndarray:
        return np.random.default_rng(5).standard_normal((batch, M)).astype(np.float32)


@pytest.fixture(scope="session")
def tiny() -> TinyLista:
    return TinyLista()


@pytest.fixture
def model(tiny: TinyLista, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.onnx"
    onnx.save(tiny.model(), path)
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for one test; the C compiler's own stays shared."""
    import os

    shared = Path(os.environ["XDG_CACHE_HOME"]) / "unfoldc" / "zig"
    folder = tmp_path / "cache" / "unfoldc"
    folder.mkdir(parents=True, mode=0o700)
    shared.mkdir(parents=True, exist_ok=True)
    (folder / "zig").symlink_to(shared)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder / "solvers"
