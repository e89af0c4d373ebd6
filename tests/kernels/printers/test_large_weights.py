"""Weights that a C compiler would read for seconds: from a binary file on the host, as text where a solver is saved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from unfoldc import pipeline
from unfoldc.kernels.loops import LoopProgram
from unfoldc.kernels.printers.c_api import weights
from unfoldc.kernels.printers.c_api.hexadecimal import hexadecimal
from unfoldc.kernels.printers.c_api.weights import needs_binary, weights_binary, weights_texts


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_hexadecimal_literals_read_back_exactly(dtype: str) -> None:
    unsigned = np.uint32 if dtype == "float32" else np.uint64
    facts = np.finfo(dtype)
    rare = [0.0, -0.0, 1.0, -1.5, facts.tiny, facts.smallest_subnormal, -facts.smallest_subnormal * 3, facts.max]
    bits = np.random.default_rng(0).integers(0, np.iinfo(unsigned).max, 5000, unsigned)
    for values in (bits.view(dtype), np.array(rare, dtype), np.zeros(0, dtype)):
        values = values[np.isfinite(values)]
        rows = hexadecimal(values).splitlines()
        literals = [text.strip() for row in rows for text in row.split(",")[:-1]]
        assert all(text.endswith("f") == (dtype == "float32") for text in literals)
        assert len(rows) == -(-values.size // 6)
        back = np.array([float.fromhex(text.rstrip("f") if "p" in text else text) for text in literals], dtype)
        np.testing.assert_array_equal(back.view(unsigned), values.view(unsigned))


def _program(**constants: np.ndarray) -> Any:
    class Constants:
        pass

    program: Any = Constants()
    program.constants = constants
    return program


def test_large_weights_of_the_host_stand_in_a_binary_file() -> None:
    program: LoopProgram = _program(
        w=np.arange(weights.LARGE // 4, dtype=np.float32),
        b=np.array([True]),
        a=np.ones(3, np.int64),
        z=np.zeros((0, 4), np.float32),
    )
    text = weights_texts("s", program, 64)["s_weights.c"]
    assert needs_binary(text) and len(text) < 3000
    content = b"".join(weights_binary(program.constants, 64))
    assert content[:24] == program.constants["a"].tobytes() and content[64:65] == b"\1"
    assert content[128 : 128 + weights.LARGE] == program.constants["w"].tobytes()
    assert f'.incbin \\"s_weights.bin\\", 128, {weights.LARGE}\\n' in text
    for name in ("a", "b", "w", "z"):
        assert f'LABEL "s_{name}:\\n"' in text


def test_other_weights_stand_in_the_text() -> None:
    large = _program(w=np.arange(weights.LARGE // 4, dtype=np.float32))
    assert not needs_binary(weights_texts("s", large)["s_weights.c"])  # a device has no such file
    small = _program(w=np.arange(5, dtype=np.float32))
    assert not needs_binary(weights_texts("s", small, 64)["s_weights.c"])


@pytest.fixture
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(weights, "LARGE", 16)
    yield


def _model(path: Path, seed: int) -> np.ndarray:
    w = np.random.default_rng(seed).standard_normal((6, 6)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", [a, "w"], [b], name=f"iteration.{k}/{b}")
        for k, (a, b) in enumerate([("y", "x0"), ("x0", "x1"), ("x1", "x")])
    ]
    y, x = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 6]) for name in ("y", "x"))
    graph = helper.make_graph(nodes, "g", [y], [x], [numpy_helper.from_array(w, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return np.linalg.matrix_power(w.astype(np.float64), 3)


@pytest.mark.usefixtures("small_is_large")
def test_solvers_with_a_binary_file_answer_and_are_saved_as_text(tmp_path: Path) -> None:
    """Two models that differ in their numbers only: neither may get the other's, from whatever cache."""
    y = np.random.default_rng(7).standard_normal((3, 6)).astype(np.float32)
    for seed in (1, 2):
        power = _model(tmp_path / "m.onnx", seed)
        solver = pipeline.compile(tmp_path / "m.onnx", backend="c", cache=False)
        assert needs_binary(solver.artifact.sources["solver_weights.c"])
        assert np.linalg.norm(solver(y) - y @ power) <= 1e-5 * np.linalg.norm(y @ power)
        folder = solver.save(tmp_path / "saved")
        assert not list(folder.glob("*.bin")) and ".incbin" not in (folder / "solver_weights.c").read_text()
        (folder / "artifact.json").write_text(
            (folder / "artifact.json").read_text().replace(solver._build.processor, "another")
        )
        again = pipeline.load(folder)  # checks every file, and compiles them again for this processor
        assert "compiled again" in again.backend_reason
        np.testing.assert_array_equal(again(y), solver(y))
