from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from plain_modules import matrix, of
from torch import Tensor

from unfoldc.errors import InputError
from unfoldc.unfold_train import approximate
from unfoldc.unfold_train.approximations import (
    ConjugateGradient,
    Neumann,
    PolynomialTanh,
)

K, N = 4, 5
Solve = Callable[[Tensor, Tensor], Tensor]


def scaled_in_place(M: Tensor, b: Tensor) -> Tensor:
    L = torch.linalg.cholesky(M)
    L *= 2
    return torch.cholesky_solve(b, L)


def matrix_changed(M: Tensor, b: Tensor) -> Tensor:
    M = M.clone()
    L = torch.linalg.cholesky(M)
    M.add_(torch.eye(N))
    return torch.cholesky_solve(b, L)


def other_order(M: Tensor, b: Tensor) -> Tensor:
    L = torch.linalg.cholesky(M)
    return torch.linalg.solve_triangular(L, torch.linalg.solve_triangular(L.mT, b, upper=True), upper=False)


def twice_the_same(M: Tensor, b: Tensor) -> Tensor:
    L = torch.linalg.cholesky(M)
    return torch.linalg.solve_triangular(L, torch.linalg.solve_triangular(L, b, upper=False), upper=False)


def unit_diagonal(M: Tensor, b: Tensor) -> Tensor:
    L = torch.linalg.cholesky(M)
    half = torch.linalg.solve_triangular(L, b, upper=False, unitriangular=True)
    return torch.linalg.solve_triangular(L.mT, half, upper=True)


def half_changed(M: Tensor, b: Tensor) -> Tensor:
    L = torch.linalg.cholesky(M)
    half = torch.linalg.solve_triangular(L, b, upper=False)
    half *= 3
    return torch.linalg.solve_triangular(L.mT, half, upper=True)


def other_axes(M: Tensor, b: Tensor) -> Tensor:
    L = torch.linalg.cholesky(torch.stack([M, 2 * M])[None].expand(2, 2, N, N)).transpose(0, 1)
    return torch.cholesky_solve(b, L)


NO_SOLVES: list[Solve] = [
    *(scaled_in_place, matrix_changed, other_order, twice_the_same, unit_diagonal, half_changed, other_axes)
]


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("function", NO_SOLVES, ids=lambda f: f.__name__)
def test_a_changed_factor_is_no_factor(function: Solve, inference: bool) -> None:
    with torch.inference_mode(inference), pytest.raises(InputError, match="its call sites: none"):
        approximate(of(function), {"solve": Neumann()}, example_inputs=matrix())


def test_arguments_by_name_are_seen() -> None:
    def solve(M: Tensor, b: Tensor) -> Tensor:
        L = torch.linalg.cholesky(input=M)
        first = torch.cholesky_solve(input=b, input2=L)
        return (
            first
            + torch.linalg.solve(A=M, B=b)
            + torch.linalg.solve_triangular(L.t(), B=torch.linalg.solve_triangular(L, B=b, upper=False), upper=True)
        )

    model, inputs = of(solve), matrix()
    found = approximate(model, {"solve": ConjugateGradient(steps=2 * N)}, example_inputs=inputs)
    assert len(found.approximations) == 3
    np.testing.assert_allclose(found(*inputs), model(*inputs), atol=1e-5)


def test_two_operations_at_one_place_are_two_sites() -> None:
    def functions(x: Tensor) -> Tensor:
        for function in (torch.exp, torch.tanh):
            x = function(x)
        return x

    x = torch.linspace(-1, 1, 9)
    found = approximate(of(functions), {"tanh": PolynomialTanh(high=3.0)}, example_inputs=x)
    assert list(found.approximations) == ["tanh_0"]
