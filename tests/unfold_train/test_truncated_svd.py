"""Subspace iteration in the place of the SVD."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import unfoldc
from unfoldc.errors import InputError
from unfoldc.runtime import Status
from unfoldc.unfold_train import Input, Solver, View, approximate, unfold
from unfoldc.unfold_train.approximations.truncated_svd import TruncatedSvd, orthonormalise
from unfoldc.unfold_train.multiply_adds import count_multiply_adds


def matrices(m: int, n: int, rank: int, ratio: float, batch: int = 4, seed: int = 1) -> Tensor:
    """X (batch, m, n) in float64 with singular values 10 .. 1 up to the rank, and `ratio` behind it."""
    generator = torch.Generator().manual_seed(seed)
    U, s, Vh = torch.linalg.svd(torch.randn(batch, m, n, generator=generator, dtype=torch.float64), full_matrices=False)
    s = torch.full_like(s, ratio)
    s[:, :rank] = torch.linspace(10, 1, rank, dtype=s.dtype) if rank > 1 else 1.0
    return (U * s.unsqueeze(-2)) @ Vh


def best(X: Tensor, rank: int) -> Tensor:
    """The best approximation of a rank, by PyTorch's SVD in float64."""
    U, s, Vh = torch.linalg.svd(X.double(), full_matrices=False)
    return (U[..., :rank] * s[..., None, :rank]) @ Vh[..., :rank, :]


def product(triplets: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    U, s, V = triplets
    return (U * s.unsqueeze(-2)) @ V.mT


def distance(found: Tensor, wanted: Tensor) -> float:
    return float(torch.linalg.norm(found.double() - wanted) / torch.linalg.norm(wanted))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("m", "n", "rank"), [(30, 20, 4), (12, 25, 6), (9, 9, 1), (7, 5, 5)])
def test_it_comes_to_the_best_approximation(m: int, n: int, rank: int, dtype: torch.dtype) -> None:
    X = matrices(m, n, rank, 0.2)
    U, s, V = TruncatedSvd(steps=10)(None, X.to(dtype), rank)
    assert (U.shape, s.shape, V.shape) == ((4, m, rank), (4, rank), (4, n, rank))
    assert U.dtype == s.dtype == V.dtype == dtype
    assert distance(product((U, s, V)), best(X, rank)) < 1e-5
    gram = (V.mT @ V).double() - torch.eye(rank, dtype=torch.float64)
    assert float(gram.abs().max()) < 20 * torch.finfo(dtype).eps


def test_the_error_falls_by_the_square_of_the_ratio() -> None:
    X, rank = matrices(40, 30, 3, 0.5), 3
    errors = [distance(product(TruncatedSvd(steps=k)(None, X, rank)), best(X, rank)) for k in (6, 7, 8, 9)]
    for before, after in zip(errors, errors[1:], strict=False):
        assert after / before == pytest.approx(0.25, rel=0.1)
    condition = TruncatedSvd().convergence(X, rank)
    assert condition.number == pytest.approx(0.5, rel=1e-9) and condition.holds
    assert "singular values 4 and 3" in condition.name
    flat = TruncatedSvd().convergence(torch.eye(5, dtype=torch.float64).expand(2, 5, 5), 2)
    assert flat.number == pytest.approx(1.0) and flat.broken == 1.0


def test_singular_vectors_separate_too() -> None:
    X = matrices(20, 15, 4, 0.1)
    U, s, V = TruncatedSvd(steps=30)(None, X, 4)
    wanted_u, wanted_s, wanted_v = torch.linalg.svd(X, full_matrices=False)
    torch.testing.assert_close(s, wanted_s[:, :4], rtol=1e-9, atol=1e-9)
    for found, wanted in ((U, wanted_u[..., :4]), (V, wanted_v.mT[..., :4])):
        torch.testing.assert_close((found * wanted).sum(-2).abs(), torch.ones(4, 4, dtype=X.dtype), rtol=0, atol=1e-6)


def test_a_warm_start_follows_a_matrix_that_changes_slowly() -> None:
    generator = torch.Generator().manual_seed(2)
    X = matrices(30, 20, 3, 0.6)
    cold, warm = TruncatedSvd(steps=1), TruncatedSvd(steps=1, warm_start=True, first_steps=20)
    assert warm.uses_previous and not cold.uses_previous
    answer = warm.start(X, 3)
    for _ in range(6):
        X = X + 0.01 * torch.randn(X.shape, generator=generator, dtype=X.dtype) / 10
        answer = warm(answer, X, 3)
        wanted = best(X, 3)
        assert distance(product(answer), wanted) < 0.02 * distance(product(cold(None, X, 3)), wanted)
    assert distance(product(warm(None, X, 3)), product(cold(None, X, 3))) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lower_ranks_than_asked_for_give_no_nan(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(4)
    X = torch.zeros(3, 8, 6, dtype=dtype)
    X[1] = torch.outer(torch.arange(8.0), torch.ones(6)).to(dtype)
    X[2] = (torch.randn(8, 2, generator=generator) @ torch.randn(2, 6, generator=generator)).to(dtype)
    X.requires_grad_()
    a = TruncatedSvd(steps=3, warm_start=True)
    answer = a.start(X, 4)
    assert distance(product(answer).detach(), X.detach().double()) < 1e-5
    assert float(answer[1][0].detach().abs().max()) == 0
    product(answer).square().sum().backward()
    assert X.grad is not None and bool(torch.isfinite(X.grad).all())
    assert a.convergence(X, 4).holds
    full = matrices(8, 6, 4, 0.01, batch=3).to(dtype)
    later = (answer[0].detach(), answer[1].detach(), answer[2].detach())
    for _ in range(4):
        later = a(later, full, 4)  # directions that were lost come back
    assert distance(product(later), best(full, 4)) < 1e-5


def test_what_is_not_finite_stays_so() -> None:
    X = matrices(6, 5, 2, 0.1)
    X[1, 0, 0] = torch.nan
    found = product(TruncatedSvd()(None, X, 2))
    assert bool(found[1].isnan().all()) and bool(torch.isfinite(found[[0, 2, 3]]).all())
    condition = TruncatedSvd().convergence(X, 2)
    assert condition.broken == 0.25 and condition.number == float("inf")


def test_orthonormal_columns_span_the_same_space() -> None:
    generator = torch.Generator().manual_seed(6)
    A = torch.randn(3, 10, 4, generator=generator, dtype=torch.float64) @ torch.diag(
        torch.tensor([1e6, 1.0, 1e-3, 1e-6], dtype=torch.float64)
    )
    Q = orthonormalise(A)
    torch.testing.assert_close(Q.mT @ Q, torch.eye(4, dtype=A.dtype).expand(3, 4, 4), rtol=0, atol=1e-14)
    torch.testing.assert_close(Q @ (Q.mT @ A), A, rtol=1e-12, atol=1e-9)


def test_gradients_are_right() -> None:
    X = matrices(5, 4, 2, 0.3, batch=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda X: product(TruncatedSvd(steps=2)(None, X, 2)), (X,))


class Projection(Solver):
    """The product of the leading triplets of X."""

    X = Input("m", "n")

    def init(self, v: View) -> Tensor:
        return torch.zeros_like(v.X)

    def step(self, v: View, state: Tensor) -> Tensor:
        return product(v.svd(v.X, 4))

    def output(self, v: View, state: Tensor) -> Tensor:
        return state


@pytest.mark.parametrize("warm", [False, True])
def test_the_stated_cost_is_what_runs(warm: bool) -> None:
    a = TruncatedSvd(steps=3, warm_start=warm, first_steps=7)
    X = matrices(30, 20, 4, 0.3, batch=1)
    network = approximate(unfold(Projection(), iterations=1, example={"X": X}), {"svd": a})
    counted = count_multiply_adds(network, {"X": X})
    own = 30 * 4 + 30 * 4 * 20  # of the product
    assert counted.iterations[0] - own == pytest.approx(a.multiply_adds(X, 4), rel=0.02)
    assert counted.begin == pytest.approx(a.start_multiply_adds(X, 4), rel=0.25)  # its last U and s are not needed
    assert a.multiply_adds(X.expand(5, 30, 20), 4) == a.multiply_adds(X, 4)
    assert (a.start_multiply_adds(X, 4) > 2 * a.multiply_adds(X, 4)) == warm


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=re.escape("TruncatedSvd(steps=...): 0; allowed: 1 to 64")):
        TruncatedSvd(steps=0)
    with pytest.raises(InputError, match=re.escape("TruncatedSvd(first_steps=...): 0; allowed: 1 to 256")):
        TruncatedSvd(first_steps=0)
    with pytest.raises(InputError, match=re.escape("TruncatedSvd: rank 4 of a matrix 5 × 3; allowed: 1 to 3")):
        TruncatedSvd()(None, torch.zeros(1, 5, 3), 4)


class LowRank(nn.Module):
    """Three iterations of X ← X + weight · (best approximation of rank 2 of X), each warm-started from the last."""

    def __init__(self) -> None:
        super().__init__()
        self.begin = TruncatedSvd(steps=4)
        self.iteration = nn.ModuleList(Shrink(0.3 + 0.1 * k) for k in range(3))

    def forward(self, X: Tensor) -> Tensor:
        U, s, V = self.begin(None, X, 2)
        for step in self.iteration:
            X, U, s, V = step(X, U, s, V)
        return X


class Shrink(nn.Module):
    def __init__(self, weight: float) -> None:
        super().__init__()
        self.svd = TruncatedSvd(steps=2, warm_start=True)
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, X: Tensor, U: Tensor, s: Tensor, V: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        U, s, V = self.svd((U, s, V), X, 2)
        return X + self.weight * product((U, s, V)), U, s, V


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exported_and_compiled_it_answers_the_same(dtype: torch.dtype, tmp_path: Path) -> None:
    module = LowRank().to(dtype)
    X = matrices(6, 5, 2, 0.3).to(dtype)
    X[3] = 0
    wanted = module(X).detach().numpy()
    path = tmp_path / "model.onnx"
    if dtype == torch.float64:  # torch's exporter alone rounds constants to float32
        unfoldc.export_onnx(module, X, path)
    else:
        shapes = ({0: torch.export.Dim("batch")},)
        program = torch.onnx.export(module, (X,), dynamo=True, optimize=False, verbose=False, dynamic_shapes=shapes)
        assert program is not None
        program.save(str(path))
    assert not {node.op_type for node in onnx.load(path).graph.node} & {"SVD", "If", "Loop"}
    tolerance = {torch.float32: 2e-5, torch.float64: 1e-11}[dtype] * float(np.abs(wanted).max())
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    [found] = session.run(None, {session.get_inputs()[0].name: X.numpy()})
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance)
    solver = unfoldc.compile(path, backend="c", cache=False)
    assert solver.iterations == 3
    result = solver.run({solver.inputs[0].name: X.numpy()})
    assert result.status is Status.COMPLETE
    np.testing.assert_allclose(next(iter(result.outputs.values())), wanted, rtol=0, atol=tolerance)
