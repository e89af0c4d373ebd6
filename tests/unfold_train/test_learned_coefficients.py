"""What approximations of a linear solve learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from linear_family import Case, N, arguments, dominant, error, every, exact, normal
from torch import Tensor

from unfoldc.errors import InputError
from unfoldc.unfold_train.approximations.gauss_seidel import GaussSeidel
from unfoldc.unfold_train.approximations.jacobi import Jacobi
from unfoldc.unfold_train.approximations.neumann import Neumann


@every
@pytest.mark.parametrize("learn", ["none", "scalar", "diagonal", "matrix"])
def test_learned_parts_start_at_the_classical_method(case: Case, learn: str) -> None:
    if case.kind is GaussSeidel and learn == "matrix":
        return
    given = arguments(case, dominant(22, 4), normal(23, 4, N, 2))
    approximation = case.make(3, learn=learn)
    approximation.prepare(*given)
    assert error(approximation(None, *given), case.make(3)(None, *given)) < 1e-14
    shapes = {"none": set(), "scalar": {(1, 1)}, "diagonal": {(N, 1)}, "matrix": {(N, N)}}
    assert {tuple(p.shape) for p in approximation.parameters()} == shapes[learn]
    assert {p.dtype for p in approximation.parameters()} <= {torch.float64}
    found = approximation(None, *given)
    if learn != "none":
        found.square().sum().backward()
        assert all(p.grad is not None and bool((p.grad != 0).any()) for p in approximation.parameters())
        smaller = [a[..., : N - 1, : N - 1] if i == 0 else a[..., : N - 1, :] for i, a in enumerate(given)]
        if learn != "scalar":
            with pytest.raises(InputError, match=f"called with .{N - 1}"):
                approximation(None, *smaller)
        with pytest.raises(InputError, match="before it knows its size"):
            case.make(3, learn=learn)(None, *given)


@every
def test_equal_starts_get_different_gradients(case: Case) -> None:
    given = arguments(case, dominant(24, 40, dominance=1.2), normal(25, 40, N, 1))
    truth = exact(*given)
    approximation = case.make(3, learn="scalar")
    approximation.prepare(*given)
    (approximation(None, *given) - truth).square().sum().backward()
    gradients = sorted(float(p.grad) for p in approximation.parameters() if p.grad is not None)
    largest = max(abs(g) for g in gradients)
    assert len(gradients) >= 3
    assert min(b - a for a, b in zip(gradients, gradients[1:], strict=False)) > 1e-6 * largest > 0


def one_factor_per_step(
    inverse: Callable[[Tensor, Tensor], Tensor], factors: list[Tensor], A: Tensor, b: Tensor
) -> Tensor:
    """x ← x + cᵢ M⁻¹(b - A x) from zero: the form whose equal starts have equal gradients."""
    x = torch.zeros_like(b)
    for c in factors:
        x = x + c * inverse(A, b - A @ x)
    return x


def diagonal_inverse(A: Tensor, r: Tensor) -> Tensor:
    return r / A.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)


def triangular_inverse(A: Tensor, r: Tensor) -> Tensor:
    return torch.linalg.solve_triangular(A.tril(), r, upper=False)


@pytest.mark.parametrize("inverse", [diagonal_inverse, triangular_inverse])
def test_factors_of_whole_steps_would_have_equal_gradients(inverse: Callable[[Tensor, Tensor], Tensor]) -> None:
    A, b = dominant(24, 40, dominance=1.2), normal(25, 40, N, 1)
    factors = [torch.ones(1, 1, dtype=torch.float64, requires_grad=True) for _ in range(4)]
    found = one_factor_per_step(inverse, factors, A, b)
    classical = Jacobi(sweeps=3) if inverse is diagonal_inverse else GaussSeidel(sweeps=4, start="zero")
    assert error(found, classical(None, A, b)) < 1e-13
    (found - exact(A, b)).square().sum().backward()
    gradients = [float(c.grad) for c in factors if c.grad is not None]
    assert len(gradients) == 4 and gradients == pytest.approx([gradients[0]] * 4, rel=1e-10) and gradients[0] != 0


def channels(seed: int, count: int, antennas: int = 64, users: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    """A, b and the symbols: A⁻¹b is their linear estimate of least error."""
    H = normal(seed, count, antennas, users) / antennas**0.5
    symbols = normal(seed + 1, count, users, 1).sign()
    received = H @ symbols + 0.1 * normal(seed + 2, count, antennas, 1)
    return H.mT @ H + 0.01 * torch.eye(users, dtype=torch.float64), H.mT @ received, symbols


def fit(model: Callable[[], Tensor], truth: Tensor, parameters: list[Any], steps: int = 300) -> None:
    optimizer = torch.optim.Adam(parameters, lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        (model() - truth).square().mean().backward()
        optimizer.step()


def test_training_separates_the_coefficients_and_closes_more_of_the_gap() -> None:
    A, b, symbols = channels(51, 300)
    fresh_A, fresh_b, fresh = channels(61, 1000)
    approximation = Neumann(order=2, learn="scalar")
    approximation.prepare(A, b)
    untrained = error(approximation(None, fresh_A, fresh_b), fresh) ** 2
    best = error(exact(fresh_A, fresh_b), fresh) ** 2
    coefficients = list(approximation.parameters())
    factors = [torch.ones(1, 1, dtype=torch.float64, requires_grad=True) for _ in coefficients]
    fit(lambda: approximation(None, A, b), symbols, coefficients)
    fit(lambda: one_factor_per_step(diagonal_inverse, factors, A, b), symbols, list(factors))

    def closed(answer: Tensor) -> float:
        return (untrained - error(answer, fresh) ** 2) / (untrained - best)

    ours = closed(approximation(None, fresh_A, fresh_b))
    theirs = closed(one_factor_per_step(diagonal_inverse, factors, fresh_A, fresh_b))
    learned = [float(c.detach()) for c in coefficients]
    assert max(learned) - min(learned) > 0.2
    stuck = [float(c.detach()) for c in factors]
    assert max(stuck) - min(stuck) < 1e-6 and abs(stuck[0] - 1) > 0.1
    assert ours > 0.82 and theirs < ours - 0.08, (ours, theirs)
