from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from solver_zoo.registry import SOLVERS
from torch import Tensor, nn

from unfoldc.errors import ExportError
from unfoldc.export import export_onnx, iterate
from unfoldc.export.check import compare
from unfoldc.export.engines import load
from unfoldc.export.examples import Examples

REFERENCE = "ONNX's reference evaluator"


def save(path: Path, text: str) -> Path:
    onnx.save(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> solver {text}'), path)
    return path


def test_onnx_runtime_where_it_can(tmp_path: Path) -> None:
    engine = load(save(tmp_path / "a.onnx", "(float[2] y) => (float[2] x) { x = Erf(y) }"))
    assert engine({"y": np.ones(2, np.float32)})["x"] == pytest.approx(math.erf(1))
    assert (engine.name, engine.coarse) == ("ONNX Runtime", False)


def test_the_reference_where_it_cannot_with_all_digits(tmp_path: Path) -> None:
    engine = load(save(tmp_path / "a.onnx", "(double[n] y) => (double[n] x) { x = Erf(y) }"))
    y = np.linspace(-2, 2, 9)
    np.testing.assert_allclose(engine({"y": y})["x"], [math.erf(v) for v in y], rtol=1e-15)
    assert engine.name == REFERENCE


def test_what_is_found_to_be_missing_only_when_it_runs(tmp_path: Path) -> None:
    text = (
        "(double[3,1,2] y, double[1,6,2] W, double[1,6,2] R) => (double[3,1,1,2] x) "
        "{ x, last = GRU <hidden_size = 2> (y, W, R) }"
    )
    engine = load(save(tmp_path / "a.onnx", text))
    assert engine.name == "ONNX Runtime"
    generator = np.random.default_rng(0)
    found = engine({n: generator.standard_normal(s) for n, s in (("y", (3, 1, 2)), ("W", (1, 6, 2)), ("R", (1, 6, 2)))})
    assert found["x"].dtype == np.float64 and found["x"].shape == (3, 1, 1, 2)
    assert engine.name == REFERENCE


def test_what_the_reference_computes_in_float32_is_not_held_to_float64(tmp_path: Path) -> None:
    class Grid(nn.Module):
        def forward(self, y: Tensor) -> Tensor:
            return y + 1e-6

    text = (
        "(double[2] y) => (double[2] x) <double[1,1,2,2] image = {0,0,0,0}, double[1,1,2,2] grid = {0,0,0,0}, "
        "int64[1] all = {2}, double small = {1e-6}> "
        "{ s = GridSample (image, grid)  r = Reshape (s, all)  t = Erf (r)  u = Add (y, t)  x = Add (u, small) }"
    )
    example = Examples((torch.randn(2, dtype=torch.float64),), ("y",), (False,), None)
    agreement = compare(save(tmp_path / "a.onnx", text), Grid(), example, ["x"])
    assert (agreement.by, agreement.limit) == (REFERENCE, 1e-4)


def test_neither_can(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="ONNX Runtime cannot run the exported model"):
        load(save(tmp_path / "a.onnx", "(float[n] y) => (float[n] x) { x = Nonsense(y) }"))
    engine = load(save(tmp_path / "b.onnx", "(float[n] y) => (float[n] x) <float[2] c = {1,2}> { x = Add(y, c) }"))
    with pytest.raises(ExportError, match="ONNX Runtime cannot run the exported model"):
        engine({"y": np.ones(3, np.float32)})


def test_factors_of_products_stay_float64(tmp_path: Path) -> None:
    """ONNX Runtime would fuse them into the product, in float32."""
    text = "(double[2,2] y) => (double[2,2] x) <double c = {0.1}> { z = MatMul(y, y)  x = Mul(z, c) }"
    y = np.array([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_allclose(load(save(tmp_path / "a.onnx", text))({"y": y})["x"], y @ y * 0.1, rtol=1e-14)


@pytest.mark.parametrize(("name", "by"), [("recursive_least_squares", "ONNX Runtime"), ("plug_and_play", REFERENCE)])
def test_solvers_in_float64(tmp_path: Path, name: str, by: str) -> None:
    entry = SOLVERS[name]
    solver = entry.make(2, torch.Generator().manual_seed(0)).double().unrolled("layers")
    inputs = tuple(t.double() for t in entry.example(torch.Generator().manual_seed(1), 2))
    report = export_onnx(solver, inputs, tmp_path / "a.onnx")
    assert report.error is not None and report.error < 1e-13
    assert (report.checked_by, report.error_limit) == (by, 1e-9)
    assert str(report).endswith(f"(allowed 1e-09; run by {by})")


def test_a_disagreement_names_what_ran_the_file(tmp_path: Path) -> None:
    class Drawing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            self.count = getattr(self, "count", 0) + 1
            return iterate(torch.atan(x) + self.count)  # type: ignore[no-any-return]

    with pytest.raises(ExportError, match=f"{REFERENCE} and PyTorch differ"):
        export_onnx(Drawing(), torch.randn(2, 3, dtype=torch.float64), tmp_path / "a.onnx")
