from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from unfoldc.errors import ExportError
from unfoldc.export.check import check_model, compare, relative_error
from unfoldc.export.examples import Examples
from unfoldc.export.fresh_inputs import fresh


def save(path: Path, text: str) -> Path:
    onnx.save(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> solver {text}'), path)
    return path


def pair(y: torch.Tensor, batch: int | None = 3) -> Examples:
    return Examples((y,), ("y",), (batch is not None,), batch)


class Double(nn.Module):
    def forward(self, y: torch.Tensor) -> torch.Tensor:
        return y + y


def test_error_is_relative_to_the_norm_but_small_problems_count_by_the_median() -> None:
    wanted = np.array([[3.0, 4.0], [0.0, 1e-9], [6.0, 8.0]])
    found = wanted + np.array([[0.0, 0.5], [0.5, 0.0], [0.0, 0.5]])
    assert relative_error(found, wanted, batched=True) == pytest.approx(0.1)
    assert relative_error(found, wanted, batched=False) == pytest.approx(np.sqrt(0.75) / np.sqrt(125))


def test_nan_and_infinity_must_stand_in_the_same_places() -> None:
    wanted = np.array([1.0, np.nan, np.inf])
    assert relative_error(wanted.copy(), wanted, batched=False) == 0
    for other in ([1.0, 2.0, np.inf], [1.0, np.nan, -np.inf], [np.nan, np.nan, np.inf]):
        assert relative_error(np.array(other), wanted, batched=False) == np.inf


def test_shapes_must_agree_and_zeros_are_compared_absolutely() -> None:
    assert relative_error(np.zeros(3), np.zeros((3, 1)), batched=True) == np.inf
    assert relative_error(np.full((2, 1), 0.25), np.zeros((2, 1)), batched=True) == 0.25
    assert relative_error(np.zeros((0, 2)), np.zeros((0, 2)), batched=True) == 0


def test_fresh_inputs_look_like_the_example() -> None:
    generator = torch.Generator().manual_seed(0)
    positive, whole, mask = torch.rand(4, 50), torch.tensor([3, 9, 9, 3]), torch.tensor([True, False, True, True])
    matrix = torch.eye(50)
    examples = Examples((positive, whole, mask, matrix), ("a", "b", "c", "d"), (True, True, True, False), 4)
    a, b, c, d = fresh(examples, 7, generator)
    assert (a.shape, b.shape, c.shape, d.shape) == ((7, 50), (7,), (7,), (50, 50))
    assert (a >= 0).all() and 0.3 < a.mean() < 0.8
    assert set(b.tolist()) <= {3, 9} and c.dtype == torch.bool
    torch.testing.assert_close(d, matrix, atol=2e-3, rtol=0)
    (zeros,) = fresh(pair(torch.zeros(3, 400)), 3, generator)
    assert zeros.std() == pytest.approx(0.5, rel=0.1)


def test_fresh_matrices_keep_their_structure() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(4, 6, 6, generator=generator)
    positive, symmetric = noise @ noise.mT + 0.01 * torch.eye(6), noise + noise.mT
    lower, nonnegative = noise.tril() + 3 * torch.eye(6), noise.abs() @ noise.abs().mT + torch.eye(6)
    examples = Examples((positive, symmetric, lower, nonnegative), tuple("abcd"), (True,) * 4, 4)
    a, b, c, d = fresh(examples, 50, generator)
    for moved in (a, b, d):
        torch.testing.assert_close(moved, moved.mT)
        assert not any(torch.equal(one, other) for one in moved for other in positive)
    assert torch.linalg.eigvalsh(a.double()).min() > 0.009 and torch.linalg.eigvalsh(d.double()).min() > 0.9
    assert torch.linalg.eigvalsh(b).min() < 0 and (d >= 0).all()
    assert not c.triu(1).any() and not any(torch.equal(one, other) for one in c for other in lower)


def test_agreement_counts_runs(tmp_path: Path) -> None:
    path = save(tmp_path / "a.onnx", "(float[batch,2] y) => (float[batch,2] x) { x = Add(y, y) }")
    found = compare(path, Double(), pair(torch.randn(3, 2)), ["x"])
    assert (found.error, found.limit, found.runs, found.iterates) == (0.0, 1e-4, 4, False)


def test_disagreement_gives_the_figures(tmp_path: Path) -> None:
    path = save(tmp_path / "a.onnx", "(float[batch,2] y) => (float[batch,2] x) { x = Mul(y, y) }")
    with pytest.raises(ExportError, match=r"output x: ONNX Runtime and PyTorch differ by \S+ relative .* batch of 3"):
        compare(path, Double(), pair(torch.randn(3, 2)), ["x"])


def test_a_batch_size_that_the_file_cannot_take(tmp_path: Path) -> None:
    path = save(tmp_path / "a.onnx", "(float[batch,2] y) => (float[batch,2] x) <float[3,1] c = {0,0,0}> "
                "{ z = Add(y, y)  x = Add(z, c) }")  # fmt: skip
    with pytest.raises(ExportError, match="batch of 1|cannot run"):
        compare(path, Double(), pair(torch.randn(3, 2)), ["x"])


def test_iterates_are_compared_by_name(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.onnx", '(float[2] y) => (float[2] x, float[2] "x0") { x = Add(y, y)  x0 = Neg(y) }'
    )  # fmt: skip
    right, wrong = (lambda t: {"x0": -t[0]}), (lambda t: {"x0": t[0]})
    example = pair(torch.randn(2), None)
    assert compare(path, Double(), example, ["x"], right).iterates
    with pytest.raises(ExportError, match="output x0"):
        compare(path, Double(), example, ["x"], wrong)


def test_a_module_that_fails_on_fresh_inputs(tmp_path: Path) -> None:
    class Picky(nn.Module):
        def forward(self, y: torch.Tensor) -> torch.Tensor:
            if len(y) == 1:
                raise ValueError("one is too few")
            return y + y

    path = save(tmp_path / "a.onnx", "(float[batch,2] y) => (float[batch,2] x) { x = Add(y, y) }")
    with pytest.raises(ExportError, match="not on fresh inputs with a batch of 1: one is too few"):
        compare(path, Picky(), pair(torch.randn(3, 2)), ["x"])


@pytest.mark.parametrize(
    ("text", "do"),
    [
        ("(float[n] y) => (float[n] x) { x = Nonsense(y) }", "checker objects"),
        ("(float[n] y) => (float[n] x) { x = Add(y, absent) }", "checker objects"),
    ],
)
def test_models_that_the_checker_refuses(tmp_path: Path, text: str, do: Any) -> None:
    with pytest.raises(ExportError, match=do):
        check_model(save(tmp_path / "a.onnx", text))


def test_what_onnx_runtime_cannot_run(tmp_path: Path) -> None:
    path = save(tmp_path / "a.onnx", "(float[n] y) => (float[n] x) { x = Nonsense(y) }")
    with pytest.raises(ExportError, match="ONNX Runtime cannot run the exported model"):
        compare(path, Double(), pair(torch.randn(3, 2)), ["x"])
